"""What the code around a cursor is, and whether a suggestion would break it.

Python through tree-sitter, imported at first use: it costs memory that an editor
session in other languages never needs.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

from tabwise_server.suggest.brackets import open_brackets
from tabwise_server.suggest.place import Place, indent_of

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

Surroundings = Literal["code", "string", "comment"]

# Parsing costs about 0.2 ms per 1,000 characters; whole small files, windows of others.
MAX_CHARS_BEFORE = 16_000
MAX_CHARS_AFTER = 4_000


def surroundings(place: Place) -> Surroundings:
    """What a Python cursor stands in; inside an f-string's braces it is code."""
    before = window_before(place.prefix)
    offset = len(before.encode("utf-8", "replace"))
    tree = _parser().parse(_bytes(before + window_after(place.suffix)))
    node = tree.root_node.descendant_for_byte_range(max(offset - 1, 0), offset)
    while node is not None:
        if node.type == "comment" and node.start_byte < offset:
            return "comment"
        if node.type == "interpolation":
            return "code"
        if node.type == "string" and node.start_byte < offset:
            closed = node.end_byte <= offset and not node.has_error
            return "code" if closed else "string"
        node = node.parent
    return "code"


def keeps_syntax(place: Place, text: str) -> bool:
    """Whether Python with `text` inserted has no more syntax errors than without.

    A suggestion may leave open what it opens: `for x in xs:` or `call(` count as
    if their block and their brackets followed.
    """
    before, after = window_before(place.prefix), window_after(place.suffix)
    whole = before + text
    rest = _closing(place, text) if not place.line_after.strip() else ""
    return _count_errors(whole + rest + after) <= _count_errors(before + after)


def window_before(prefix: str) -> str:
    """The end of `prefix`, from a line at top level where one is in reach."""
    if len(prefix) <= MAX_CHARS_BEFORE:
        return prefix
    start = len(prefix) - MAX_CHARS_BEFORE
    while (end := prefix.find("\n", start)) >= 0:
        start = end + 1
        if prefix.startswith(("def ", "class ", "@", "import ", "from "), start):
            return prefix[start:]
    return prefix[prefix.find("\n", len(prefix) - MAX_CHARS_BEFORE) + 1 :]


def window_after(suffix: str) -> str:
    """The beginning of `suffix`, up to a line's end."""
    if len(suffix) <= MAX_CHARS_AFTER:
        return suffix
    end = suffix.rfind("\n", 0, MAX_CHARS_AFTER)
    return suffix[: end + 1 if end >= 0 else MAX_CHARS_AFTER]


def _closing(place: Place, text: str) -> str:
    """What would finish the last line of the suggestion."""
    line = (place.line_before + text).rpartition("\n")[2]
    closers = "".join(reversed(open_brackets(text)))
    if closers:
        return closers
    code = line.partition(" #")[0].strip()
    if code.endswith(":"):
        return _body(code, indent_of(line))
    if code.startswith("@"):
        return f"\n{indent_of(line)}def f(): pass"
    return ""


def _body(header: str, indent: str) -> str:
    if header == "try:":
        return f" pass\n{indent}finally: pass"
    if header.startswith("match "):
        return f"\n{indent} case _: pass"
    return " pass"


@cache
def _parser() -> Parser:
    import tree_sitter_python
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_python.language()))


def _count_errors(text: str) -> int:
    tree = _parser().parse(_bytes(text))
    count = 0
    todo: list[Node] = [tree.root_node]
    while todo:
        node = todo.pop()
        count += node.is_error or node.is_missing
        if node.has_error:
            todo += node.children
    return count


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")

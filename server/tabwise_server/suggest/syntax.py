"""What the code around a cursor is, and whether a suggestion would break it.

Python through tree-sitter, imported at first use: it costs memory that an editor
session in other languages never needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

from tabwise_server.suggest.brackets import open_brackets
from tabwise_server.suggest.place import Place, indent_of

if TYPE_CHECKING:
    from tree_sitter import Node, Parser, Point, Tree

Surroundings = Literal["code", "string", "comment"]

# Parsing costs about 0.2 ms per 1,000 characters; whole small files, windows of others.
MAX_CHARS_BEFORE = 8_000
MAX_CHARS_AFTER = 2_000


def surroundings(place: Place) -> Surroundings:
    """What a Python cursor stands in; inside an f-string's braces it is code.

    >>> surroundings(Place(prefix="name = 'Ad")), surroundings(Place(prefix="f'{na"))
    ('string', 'code')
    """
    text = _bytes(window_before(place.prefix))
    braces = 0
    for leaf in _leaves_backwards(_parser().parse(text).root_node):
        if leaf.type == "comment":
            return "comment" if leaf.end_byte == len(text) else "code"
        if leaf.type == "string_end":
            return "code"
        if leaf.type == "string_start":
            formatted = b"f" in (leaf.text or b"").lower()
            return "code" if formatted and braces > 0 else "string"
        braces += (leaf.type == "{") - (leaf.type == "}")
    return "code"


def keep_syntax(text: str, place: Place) -> str:
    """Nothing that adds a syntax error, where the language can be parsed."""
    return text if not place.is_python or keeps_syntax(place, text) else ""


def keeps_syntax(place: Place, text: str) -> bool:
    """Whether Python with `text` inserted has no more syntax errors than without.

    At a line's end "without" means with that line blanked out, for a line half typed
    is an error of its own. A suggestion may leave open what it opens: `for x in xs:` or
    `call(` count as if their block and their brackets followed.
    """
    check, line = _check_at(place), place.line_before
    if place.line_after.strip():
        return check.count_errors(text) <= check.errors
    return any(
        check.count_errors(line + text + ending) <= check.errors
        for ending in _endings(line, text)
    )


def prepare(place: Place) -> None:
    """Parse what `keeps_syntax` will compare with: while a backend works, it is free.

    On one line it is the same for every keystroke.
    """
    if place.is_python:
        _check_at(place)


def _check_at(place: Place) -> _SyntaxCheck:
    """What stands around `place`, its line blanked out where nothing follows on it."""
    before, after = window_before(place.prefix), window_after(place.suffix)
    if place.line_after.strip():
        return _check_between(before, "", after)
    line = place.line_before
    head = before[: len(before) - len(line)]
    return _check_between(head, indent_of(line) + "pass", after)


@lru_cache(maxsize=2)
def _check_between(head: str, middle: str, tail: str) -> _SyntaxCheck:
    return _SyntaxCheck(head, middle, tail)


class _SyntaxCheck:
    """Counts syntax errors with one stretch of a text replaced, parsing anew only what
    the replacement touches."""

    def __init__(self, head: str, middle: str, tail: str) -> None:
        self._head, self._middle, self._tail = map(_bytes, (head, middle, tail))
        self._tree = _parser().parse(self._head + self._middle + self._tail)
        self.errors = _count_errors(self._tree)

    def count_errors(self, middle: str) -> int:
        """With `middle` in place of the first one."""
        new = _bytes(middle)
        start = len(self._head)
        old_end, new_end = start + len(self._middle), start + len(new)
        text = self._head + new + self._tail
        tree = self._tree.copy()
        tree.edit(
            start,
            old_end,
            new_end,
            _point(self._head, start),
            _point(self._head + self._middle, old_end),
            _point(text, new_end),
        )
        return _count_errors(_parser().parse(text, tree))


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


def _endings(line_before: str, text: str) -> Iterator[str]:
    """What may follow the suggestion to finish what it began, likeliest first."""
    line = (line_before + text).rpartition("\n")[2]
    code = line.partition(" #")[0].strip()
    if code.endswith(":"):
        yield _body(code, indent_of(line))
    elif code.startswith("@"):
        yield f"\n{indent_of(line)}def f(): pass"
    yield ""
    for opened in (text, line_before + text):
        if closers := "".join(reversed(open_brackets(opened))):
            yield closers
            yield f"{closers}: pass"


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


def _leaves_backwards(root: Node) -> Iterator[Node]:
    """The tree's tokens from the last one on."""
    todo = [root]
    while todo:
        node = todo.pop()
        if node.child_count:
            todo += node.children
        else:
            yield node


def _count_errors(tree: Tree) -> int:
    count = 0
    todo: list[Node] = [tree.root_node]
    while todo:
        node = todo.pop()
        count += node.is_error or node.is_missing
        if node.has_error:
            todo += node.children
    return count


def _point(text: bytes, offset: int) -> Point:
    """(row, column in bytes) of a byte offset."""
    from tree_sitter import Point

    start = text.rfind(b"\n", 0, offset) + 1
    return Point(text.count(b"\n", 0, offset), offset - start)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")

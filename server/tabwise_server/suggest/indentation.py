"""Indentation: how a document is indented, and a suggestion written the same way."""

from __future__ import annotations

import attrs

from tabwise_server.suggest.brackets import CLOSERS, stray_closer
from tabwise_server.suggest.place import Place, indent_of, opens_block

LOOK_CHARS = 4_000  # of the document on each side of the cursor
TAB_WIDTH = 4  # columns, where nothing tells


@attrs.frozen
class IndentStyle:
    """One level of indentation: a tab, or `width` spaces. width: also a tab's columns.

    An editor's formattingOptions are `IndentStyle(not insertSpaces, tabSize)`.
    """

    tabs: bool
    width: int = TAB_WIDTH


def style_at(place: Place, editor: IndentStyle | None = None) -> IndentStyle | None:
    """How the document is indented near the cursor; where it is not, as the editor
    would, else None.

    The document comes first: tabs and spaces in one block are an error in Python.

    >>> style_at(Place(prefix="if x:\\n  y()\\n"))
    IndentStyle(tabs=False, width=2)
    """
    before, after = place.prefix[-LOOK_CHARS:], place.suffix[:LOOK_CHARS]
    lines = [line for line in (before + after).splitlines() if line.strip()]
    indents = [indent_of(line) for line in lines]
    tabs = sum(indent.startswith("\t") for indent in indents)
    spaces = sum(indent.startswith("  ") for indent in indents)
    if tabs > spaces:
        return IndentStyle(True, editor.width if editor else TAB_WIDTH)
    steps = [
        len(inner) - len(outer)
        for outer, inner, line in zip(indents, indents[1:], lines, strict=False)
        if opens_block(line) and len(inner) > len(outer) and "\t" not in inner
    ]
    if steps:
        return IndentStyle(False, max(set(steps), key=steps.count))
    if spaces:
        return IndentStyle(False, editor.width if editor else TAB_WIDTH)
    return editor


def cut_at_block_end(text: str, place: Place) -> str:
    """The lines that belong to the block at the cursor.

    Behind code they are deeper than its line; on a line of their own, at least as deep
    as the first. A line that closes a bracket opened before it belongs to it. At top
    level a blank line ends it.

    >>> cut_at_block_end("a = 1\\n    b = 2\\nc = 3", Place(prefix="def f():\\n    "))
    'a = 1\\n    b = 2'
    """
    lines = text.split("\n")
    alone = not place.line_before.strip()
    begin = next((n for n, line in enumerate(lines) if line.strip()), 0)
    if not alone:
        begin = 0
    head = lines[begin] if begin else place.line_before + lines[0]
    base = _columns(indent_of(head), TAB_WIDTH)
    for number in range(begin + 1, len(lines)):
        depth = _columns(indent_of(lines[number]), TAB_WIDTH) - base
        if not lines[number].strip() or depth > 0:
            continue
        kept = "\n".join(lines[:number])
        closes = _closes(place.line_before + kept, lines[number])
        paragraph = not base and kept.endswith("\n")
        if not closes and (not alone or depth < 0 or paragraph):
            return kept.rstrip()
    return text


def drop_double_space(text: str, place: Place) -> str:
    """No blank after a blank; indentation no deeper than the lines above allow."""
    before = place.line_before
    if before.strip():
        return text.lstrip(" \t") if before[-1] in " \t" else text
    indent = indent_of(text)
    above = place.previous_line
    if not indent or above.rstrip().endswith((",", "\\")):
        return text
    allowed = len(indent_of(above))
    if opens_block(above) and len(before) <= allowed:
        return text
    return indent[: max(allowed - len(before), 0)] + text[len(indent) :]


def match_style(text: str, place: Place, editor: IndentStyle | None = None) -> str:
    """The suggestion's lines indented as the document is: tabs or spaces, and levels as
    wide as its levels, where the suggestion's own show from a line that opens a block.

    >>> place = Place(prefix="if a:\\n\\tb()\\nfor x in y:\\n\\t")
    >>> match_style("if x:\\n        c()", place)
    'if x:\\n\\t\\tc()'
    """
    if "\n" not in text and text[:1] not in (" ", "\t"):
        return text
    style = style_at(place, editor)
    if style is None:
        return text
    before = place.line_before
    own = indent_of(text) if not before.strip() else ""
    first, *rest = text[len(own) :].split("\n")
    base = _columns(indent_of(before) + own, style.width)
    unit = _unit(before + own + first, rest, base, style)
    lines = [_render(own, style, unit, 0) + first] if own else [first]
    for line in rest:
        indent = indent_of(line)
        lines.append(_render(indent, style, unit, base) + line[len(indent) :])
    return "\n".join(lines)


def _unit(first: str, rest: list[str], base: int, style: IndentStyle) -> int:
    """Columns of a level in the suggestion; the document's where it does not show."""
    if rest and opens_block(first):
        inner = next((line for line in rest if line.strip()), "")
        step = _columns(indent_of(inner), style.width) - base
        depths = [_columns(indent_of(x), style.width) - base for x in rest if x.strip()]
        if step > 0 and all(depth % step == 0 for depth in depths):
            return step
    return style.width


def _render(indent: str, style: IndentStyle, unit: int, base: int) -> str:
    """Blanks of the document's style for an indentation of the suggestion's."""
    columns = _columns(indent, style.width)
    if columns > base and unit != style.width:
        columns = base + (columns - base) * style.width // unit
    if not style.tabs:
        return " " * columns
    return "\t" * (columns // style.width) + " " * (columns % style.width)


def _columns(indent: str, width: int) -> int:
    return len(indent.expandtabs(width))


def _closes(text: str, line: str) -> bool:
    """Whether `line` begins with the closer of a bracket that `text` opened."""
    closer = line.strip()[:1]
    return closer in CLOSERS and stray_closer(text + "\n" + line, closer) is None

"""A cell of a notebook as a place in one text: the cells above it come before it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from tabwise_server.suggest.place import Place

_MAGIC = re.compile(r"^([ \t]*)([%!?])", re.MULTILINE)


@attrs.frozen
class Cell:
    """One cell. language: of a code cell ("python"), None for prose."""

    text: str
    language: str | None


def place_in_cell(
    above: Sequence[Cell], cell: Place, below: Sequence[Cell] = ()
) -> Place:
    """The cell's place with the code cells above it before its text, in their order.

    Cells of other languages, and prose, become comments in Python and are left out
    elsewhere. A cell below is not run yet: only its text's beginning would follow, so
    `below` stands after the cell. Each cell ends with a blank line. IPython's magics
    (`%time`, `!ls`) become comments, for they are no Python.

    >>> cells = [Cell("import os", "python"), Cell("# Title", None)]
    >>> place_in_cell(cells, Place(prefix="os.", language="python")).prefix
    'import os\\n\\n# # Title\\n\\nos.'
    """
    before = "".join(_as_code(other, cell) for other in above)
    after = "".join(_as_code(other, cell) for other in below)
    return attrs.evolve(
        cell,
        prefix=before + _without_magic(cell.prefix, cell),
        suffix=_suffix(_without_magic(cell.suffix, cell), after),
    )


def _as_code(other: Cell, cell: Place) -> str:
    text = other.text.rstrip()
    if not text:
        return ""
    if other.language == cell.language:
        return _without_magic(text, cell) + "\n\n"
    if not cell.is_python or other.language is not None:
        return ""
    return "".join(f"# {line}".rstrip() + "\n" for line in text.split("\n")) + "\n"


def _suffix(own: str, after: str) -> str:
    return f"{own.rstrip()}\n\n{after}" if after else own


def _without_magic(text: str, cell: Place) -> str:
    """`text` with as many lines; a magic's line becomes a comment."""
    return _MAGIC.sub(r"\1# \2", text) if cell.is_python else text

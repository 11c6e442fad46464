"""The text of one open document, kept as lines so that a keystroke costs one line.

pygls keeps its own text too, but rebuilds all of it at every change and breaks lines
at form feeds and U+2028, where editors do not.
"""

from __future__ import annotations

from tabwise_server.suggest.indentation import IndentStyle
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.positions import (
    Encoding,
    character_of,
    column_of,
    locate,
    split_lines,
)

EDITS_KEPT = 8


class Document:
    """An open document; positions are LSP's, in `encoding` units."""

    def __init__(
        self,
        text: str,
        encoding: Encoding,
        path: str | None = None,
        language: str | None = None,
    ) -> None:
        self._encoding = encoding
        self.path = path
        self.language = language
        self.changes = 0  # counts them: an answer is for one state of the text
        self.style: IndentStyle | None = None  # as the editor said last
        self.replace_all(text)

    @property
    def text(self) -> str:
        return "".join(self._lines)

    @property
    def line_ending(self) -> str:
        """That of the first line, LF if it has none."""
        first = self._lines[0]
        return next((e for e in ("\r\n", "\n", "\r") if first.endswith(e)), "\n")

    @property
    def edits(self) -> tuple[tuple[int, int], ...]:
        """The lines changed last, [start, end) each, as they stand now."""
        return tuple(self._edits)

    def replace_all(self, text: str) -> None:
        self.changes += 1
        self._lines = split_lines(text)
        self._edits: list[tuple[int, int]] = []

    def replace(self, start: tuple[int, int], end: tuple[int, int], text: str) -> None:
        """Replace from `start` to `end`, (line, character) each, clamped."""
        first, first_column = self._clamp(*start)
        last, last_column = self._clamp(*end)
        if (last, last_column) < (first, first_column):
            last, last_column = first, first_column
        text = self._lines[first][:first_column] + text
        text += self._lines[last][last_column:]
        # A CR and an LF that come to touch are one line ending.
        if first and text[:1] == "\n" and self._lines[first - 1][-1] == "\r":
            first -= 1
            text = self._lines[first] + text
        if text[-1:] == "\r" and self._lines[last + 1 : last + 2] == ["\n"]:
            last += 1
            text += "\n"
        lines = split_lines(text)
        if last + 1 < len(self._lines):
            lines.pop()  # the text ended a line, and its next one stays
        self.changes += 1
        self._lines[first : last + 1] = lines
        self._note_edit(first, last + 1, first + len(lines))

    def place_at(self, line: int, character: int) -> Place:
        """The cursor's place. Raises PositionOutside."""
        line, column = locate(self._lines, line, character, self._encoding)
        whole = self._lines[line]
        return Place(
            prefix="".join(self._lines[:line]) + whole[:column],
            suffix=whole[column:] + "".join(self._lines[line + 1 :]),
            path=self.path,
            language=self.language,
        )

    def line_before(self, line: int, character: int) -> str:
        """The line up to a position, which `place_at` took."""
        whole = self._lines[line]
        return whole[: column_of(whole, character, self._encoding)]

    def units(self, line: int, column: int) -> int:
        """The LSP character of a code point column."""
        return character_of(self._lines[line], column, self._encoding)

    def _note_edit(self, start: int, old_end: int, end: int) -> None:
        """Lines [start, old_end) became [start, end): the edits after them moved."""
        moved = end - old_end
        apart = [
            (a, b) if b <= start else (a + moved, b + moved)
            for a, b in self._edits
            if b <= start or a >= old_end
        ]
        self._edits = [*apart, (start, end)][-EDITS_KEPT:]

    def _clamp(self, line: int, character: int) -> tuple[int, int]:
        if line >= len(self._lines):
            return len(self._lines) - 1, len(self._lines[-1])
        if line < 0:
            return 0, 0
        return line, column_of(self._lines[line], character, self._encoding)

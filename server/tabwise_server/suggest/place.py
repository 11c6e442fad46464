"""Where a completion is wanted: the text on both sides of the cursor."""

from __future__ import annotations

from functools import cached_property

import attrs


@attrs.frozen(kw_only=True, slots=False)
class Place:
    """A cursor in a document. prefix + suffix is the whole text, or a window of it.

    path: for the model and the privacy rules; language: an LSP language id.
    """

    prefix: str
    suffix: str = ""
    path: str | None = None
    language: str | None = None

    @cached_property
    def line_before(self) -> str:
        """The cursor's line up to the cursor."""
        start = max(self.prefix.rfind("\n"), self.prefix.rfind("\r")) + 1
        return self.prefix[start:]

    @cached_property
    def line_after(self) -> str:
        """The cursor's line from the cursor on, without its line ending."""
        return _first_line(self.suffix)

    @cached_property
    def previous_line(self) -> str:
        """The nearest line above the cursor's with something visible, or ""."""
        end = len(self.prefix) - len(self.line_before)
        while end > 0:
            start = self.prefix.rfind("\n", 0, end - 1) + 1
            line = self.prefix[start:end].strip("\r\n")
            if line.strip():
                return line.rpartition("\r")[2]
            end = start
        return ""

    @cached_property
    def next_line(self) -> str:
        """The nearest line below the cursor's with something visible, or ""."""
        start = len(self.line_after)
        while start < len(self.suffix):
            line = _first_line(self.suffix, start)
            if line.strip():
                return line
            start += len(line) + 1
        return ""

    @property
    def is_python(self) -> bool:
        if self.language is not None:
            return self.language == "python"
        return (self.path or "").endswith((".py", ".pyi"))


def indent_of(line: str) -> str:
    """The blanks that a line begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]


def opens_block(line: str) -> bool:
    """Whether the lines after `line` stand deeper: it ends in a colon or a bracket.

    >>> opens_block("for x in y:  # each"), opens_block("x = 1")
    (True, False)
    """
    return line.partition(" #")[0].rstrip().endswith((":", "(", "[", "{"))


def _first_line(text: str, start: int = 0) -> str:
    ends = [end for end in (text.find("\n", start), text.find("\r", start)) if end >= 0]
    return text[start : min(ends, default=len(text))]

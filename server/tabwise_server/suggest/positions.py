"""LSP positions (line, character in UTF-8, UTF-16 or UTF-32 units) <-> code points.

Lines end at LF, CRLF or CR and nowhere else (Python's splitlines also breaks at form
feeds and U+2028, which editors do not).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from tabwise_server.errors import BadRequest

Encoding = Literal["utf-8", "utf-16", "utf-32"]

# Codec, and bytes in a unit. UTF-32 units are code points already.
_CODECS: Mapping[Encoding, tuple[str, int]] = MappingProxyType(
    {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2)}
)


class PositionOutside(BadRequest):
    """A position on a line that the document does not have."""


def split_lines(text: str) -> list[str]:
    """The lines of `text` with their endings; the last one has none, and may be empty.

    >>> split_lines("a\\r\\nb\\rc\\n")
    ['a\\r\\n', 'b\\r', 'c\\n', '']
    """
    lines = io.StringIO(text, newline="").readlines()
    if not lines or lines[-1][-1] in "\r\n":
        lines.append("")
    return lines


def content_length(line: str) -> int:
    """Code points of a line without its ending."""
    if line.endswith("\r\n"):
        return len(line) - 2
    return len(line) - line.endswith(("\n", "\r"))


def column_of(line: str, character: int, encoding: Encoding) -> int:
    """The code point index of `character` units into `line`.

    Beyond the line's end it is the end (LSP says so), before its ending; inside a
    character it is that character's start.

    >>> column_of("x = '😀' + y", 7, "utf-16")  # the emoji is 2 UTF-16 units
    6
    >>> column_of("x = '😀' + y", 9, "utf-8")  # and 4 bytes
    6
    """
    end = content_length(line)
    if character <= 0:
        return 0
    if line.isascii() or encoding == "utf-32":
        return min(character, end)
    codec, size = _CODECS[encoding]
    units = line[:end].encode(codec, "surrogatepass")
    if character * size >= len(units):
        return end
    if encoding == "utf-8":
        while character and units[character] & 0xC0 == 0x80:
            character -= 1
    elif 0xDC <= units[character * 2 + 1] <= 0xDF and _pairs(units, character):
        character -= 1
    return len(units[: character * size].decode(codec, "surrogatepass"))


def character_of(line: str, column: int, encoding: Encoding) -> int:
    """How many units the first `column` code points of `line` take.

    >>> character_of("x = '😀' + y", 6, "utf-16")
    7
    """
    if line.isascii() or encoding == "utf-32":
        return min(column, len(line))
    codec, size = _CODECS[encoding]
    return len(line[:column].encode(codec, "surrogatepass")) // size


def locate(
    lines: Sequence[str], line: int, character: int, encoding: Encoding
) -> tuple[int, int]:
    """(line, code point column) of an LSP position; the column is clamped.

    Raises PositionOutside for a line, or a character, that cannot exist.
    """
    if not 0 <= line < len(lines):
        raise PositionOutside(
            f"line must be 0..{len(lines) - 1}, got {line}", field="position.line"
        )
    if character < 0:
        raise PositionOutside(
            f"character must be at least 0, got {character}", field="position.character"
        )
    return line, column_of(lines[line], character, encoding)


def _pairs(units: bytes, character: int) -> bool:
    """Whether the low surrogate at `character` follows a high one."""
    return character > 0 and 0xD8 <= units[character * 2 - 1] <= 0xDB

"""What a single file must be to stand in the corpus; the first reason found is given."""

from __future__ import annotations

import re

MIN_CHARACTERS = 101
MAX_LINE = 1000  # characters
MAX_MEAN_LINE = 100
MIN_ALNUM = 0.25  # of all characters
MAX_DIGITS = 0.2
HEAD = 3000  # characters; where markers and licence headers stand

_GENERATED = re.compile(
    r"generated (by|from|with|using|file|code|automatically)|auto-?generated|"
    r"automatically generated|do not (edit|modify)|@generated|protocol buffer compiler",
    re.IGNORECASE,
)
_COPYLEFT = re.compile(
    r"gnu\s+(lesser\s+|affero\s+|library\s+)?general\s+public|"
    r"SPDX-License-Identifier:\s*(A?L?GPL|MPL|EUPL|CC-BY-(SA|NC))|"
    r"mozilla\s+public\s+licen[cs]e|creative\s+commons\s+attribution-"
    r"(sharealike|noncommercial)",
    re.IGNORECASE,
)
_LITERAL = re.compile(r"0x[0-9a-fA-F]+|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\d+")


def decode(data: bytes) -> str | None:
    """The text of a source file with `\\n` line ends, or None if it is not UTF-8 text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def reason_to_drop(text: str) -> str | None:
    """Why a file is left out, or None if it stays."""
    if len(text) < MIN_CHARACTERS:
        return "short"
    lines = text.split("\n")
    if max(map(len, lines)) > MAX_LINE or len(text) / len(lines) > MAX_MEAN_LINE:
        return "long lines"
    if is_generated(text):
        return "generated"
    if _COPYLEFT.search(text[:HEAD]):
        return "licence header"
    return _data_like(text)


def is_generated(text: str) -> bool:
    """Whether the head of the file says that a program wrote it."""
    return _GENERATED.search("\n".join(text[:HEAD].split("\n")[:12])) is not None


def _data_like(text: str) -> str | None:
    squeezed = "".join(text.split())
    if sum(map(str.isalnum, squeezed)) < MIN_ALNUM * len(text):
        return "few letters"
    literals = sum(len(found) for found in _LITERAL.findall(squeezed))
    if literals > MAX_DIGITS * len(squeezed):
        return "digits"
    return None

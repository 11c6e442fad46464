"""What a single file must be to be learned from, and the first reason against: in the
corpus, in a user's repository that a checkpoint is tuned on, in a workspace."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

MIN_CHARACTERS = 101
MAX_LINE = 1000  # characters
MAX_MEAN_LINE = 100
MIN_ALNUM = 0.25  # of all characters
MAX_LITERALS = 0.2  # digits and hexadecimal literals, of characters not blank
HEAD = 3000  # characters, and
HEAD_LINES = 12  # lines, where markers and licence headers stand

_GENERATED = re.compile(
    r"^\s*(?:#|\"\"\"|''').*\bgenerated (?:by|from|with|using|file|code)\b|"
    r"auto-?generated|automatically generated|do not (?:edit|modify)|@generated|"
    r"this file (?:is|was) generated|this is a generated file|^\s*#.*protocol buffer",
    re.IGNORECASE | re.MULTILINE,
)
_COPYLEFT = re.compile(
    r"gnu\s+(lesser\s+|affero\s+|library\s+)?general\s+public|"
    r"SPDX-License-Identifier:\s*(A?L?GPL|MPL|EUPL|CC-BY-(SA|NC))|"
    r"mozilla\s+public\s+licen[cs]e|creative\s+commons\s+attribution-"
    r"(sharealike|noncommercial)",
    re.IGNORECASE,
)
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}")


def decode(data: bytes) -> str | None:
    """A source file's text with `\\n` line ends, or None if it is not UTF-8 text."""
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
    if _GENERATED.search("\n".join(lines[:HEAD_LINES])[:HEAD]):
        return "generated"
    if _COPYLEFT.search(text[:HEAD]):
        return "licence header"
    return _reason_of_characters(text)


def own_text(data: bytes) -> str | None:
    """The text of a file of a user's own, or None if it is not worth learning from. A
    licence's header is no hindrance there."""
    text = decode(data)
    fit = text is not None and reason_to_drop(text) in (None, "licence header")
    return text if fit else None


def _reason_of_characters(text: str) -> str | None:
    """Judge by shares of letters and of digits, counted over the bytes at once."""
    counts = np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256)
    digits = _count(counts, "0", "9")
    # The first byte of a character outside ASCII counts as one letter.
    letters = _count(counts, "a", "z") + _count(counts, "A", "Z")
    letters += int(counts[0xC0:].sum())
    if letters + digits < MIN_ALNUM * len(text):
        return "few letters"
    dense = len(text) - int(counts[[0x20, 0x09, 0x0A]].sum())
    if digits + _hexadecimal_letters(text) > MAX_LITERALS * dense:
        return "digits"
    return None


def _count(counts: npt.NDArray[np.intp], first: str, last: str) -> int:
    return int(counts[ord(first) : ord(last) + 1].sum())


def _hexadecimal_letters(text: str) -> int:
    """Characters of hexadecimal literals that are not digits."""
    if "0x" not in text and "\\x" not in text and "\\u" not in text:
        return 0
    found = "".join(_HEXADECIMAL.findall(text))
    return sum(not letter.isdigit() for letter in found)

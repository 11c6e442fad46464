"""Brackets and quotes in a short piece of text, by scanning: for any language."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CLOSER_OF: Mapping[str, str] = MappingProxyType({"(": ")", "[": "]", "{": "}"})
CLOSERS = frozenset(CLOSER_OF.values())
QUOTES = ("'", '"')


def open_brackets(text: str) -> list[str]:
    """The closers that `text` still waits for, innermost last; closers of brackets
    opened before it are ignored.

    >>> open_brackets("a) + f(b[1], {'(': ")
    [')', '}']
    """
    waiting: list[str] = []
    for char in _outside_strings(text):
        if char in CLOSER_OF:
            waiting.append(CLOSER_OF[char])
        elif char in CLOSERS and waiting and waiting[-1] == char:
            waiting.pop()
    return waiting


def stray_closer(text: str, closer: str) -> int | None:
    """Where `text` first closes with `closer` a bracket that it did not open, or None.

    >>> stray_closer("a, f(b)) + 1", ")")
    7
    """
    waiting: list[str] = []
    for index, char in enumerate(_outside_strings(text)):
        if char in CLOSER_OF:
            waiting.append(CLOSER_OF[char])
        elif char in CLOSERS:
            if waiting and waiting[-1] == char:
                waiting.pop()
            elif char == closer:
                return index
    return None


def inside_quotes(text: str) -> str | None:
    """The quote that is open at the end of a line of text, or None."""
    quote = None
    escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif quote is None and char in QUOTES:
            quote = char
        elif char == quote:
            quote = None
    return quote


def _outside_strings(text: str) -> str:
    """`text` with what stands in quotes, and after #, turned to blanks, length kept."""
    result: list[str] = []
    quote = None
    escaped = comment = False
    for char in text:
        hidden = quote is not None or comment
        if char == "\n":
            quote, comment = None, False
        elif escaped:
            escaped = False
        elif char == "\\" and quote:
            escaped = True
        elif quote is not None:
            quote = None if char == quote else quote
        elif not comment and char in QUOTES:
            quote = char
            hidden = True
        elif char == "#":
            comment = hidden = True
        result.append(" " if hidden else char)
    return "".join(result)

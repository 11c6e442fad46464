"""From a raw completion to a suggestion fit to show, or nothing.

Each step is a pure function of the text and the place; steps stand in order of cost.
An empty text means nothing to show.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs

from tabwise_server.suggest.brackets import (
    CLOSERS,
    QUOTES,
    inside_quotes,
    open_brackets,
    stray_closer,
)
from tabwise_server.suggest.place import Place, indent_of, opens_block
from tabwise_server.suggest.syntax import keeps_syntax

# Our sentinels and those of other model families, cut wherever they begin.
_SENTINEL = re.compile(
    r"<\|[a-z_▁]+\|>|<(?:fim_[a-z]+|file_sep|repo_name|PRE|SUF|MID|EOT|END|/?s)>"
)
_LOOP = re.compile(r"(?s)(.{2,60}?[^\W\d].{0,60}?)\1{3,}")

Step = Callable[[str, Place], str]


@attrs.frozen(kw_only=True)
class ShapeOptions:
    """min_confidence: exp(mean log-probability) below which nothing shows.
    min_visible_chars: shorter suggestions are not worth a glance."""

    min_confidence: float = 0.0
    min_visible_chars: int = 2
    check_syntax: bool = True


def shape(
    raw: str,
    place: Place,
    confidence: float = 1.0,
    options: ShapeOptions = ShapeOptions(),
) -> str | None:
    """The text to insert at `place`, with LF line endings, or None.

    >>> shape("a, b):\\n", Place(prefix="def add(", suffix="):\\n    return a + b\\n"))
    'a, b'
    """
    if confidence < options.min_confidence:
        return None
    text = raw
    for step in STEPS:
        text = step(text, place)
        if not text:
            return None
    if len("".join(text.split())) < options.min_visible_chars:
        return None
    if options.check_syntax and place.is_python and not keeps_syntax(place, text):
        return None
    return text


def cut_at_sentinel(text: str, place: Place) -> str:
    """Whatever a model says, no special token is ever shown."""
    found = _SENTINEL.search(text)
    return text[: found.start()] if found else text


def one_line_inside_a_line(text: str, place: Place) -> str:
    """With code to the right of the cursor a suggestion stays on its line."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.partition("\n")[0] if place.line_after.strip() else text


def stay_on_the_line(text: str, place: Place) -> str:
    """A line that the model thinks complete is left so: nothing for the next one before
    the cursor is there, unless a block begins; and no comment behind code."""
    if not place.line_before.strip():
        return text
    if text.lstrip(" \t").startswith("\n"):
        return text if opens_block(place.line_before) else ""
    return "" if place.is_python and text.lstrip().startswith("#") else text


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


def trim_end(text: str, place: Place) -> str:
    """No trailing blanks, unless code follows that they would stand before."""
    after = place.line_after
    return text.rstrip() if not after.strip() or after[0] in " \t" else text


def trim_overlap(text: str, place: Place) -> str:
    """Leave out the end of `text` that the rest of the line already has.

    A bracket that the text itself opened stays: `f(x)` before `)` is not cut to `f(x`.
    """
    after = place.line_after.rstrip()
    for length in range(min(len(text), len(after)), 0, -1):
        kept = text[:-length]
        if text[-length:] == after[:length] and _may_end(kept, after[0], place):
            return kept
    if after[:1] in CLOSERS:
        stray = stray_closer(text, after[0])
        return text if stray is None else text[:stray]
    return text


def fit_into_word(text: str, place: Place) -> str:
    """Nothing that would grow together with the word right of the cursor."""
    after, before = place.line_after[:1], place.line_before[-1:]
    if not _is_word(after):
        return text
    return "" if _is_word(before) or _is_word(text[-1:]) else text


def drop_closers_alone(text: str, place: Place) -> str:
    """Nothing where only closing brackets or punctuation would be shown."""
    return text if text.strip().strip(")]}>,;:.'\"`") else ""


def drop_repeated_next(text: str, place: Place) -> str:
    """Cut before the first line that stands right below the cursor anyway."""
    below = place.next_line.strip()
    if len(below) < 2:
        return text
    lines = text.split("\n")
    for number, line in enumerate(lines):
        whole = place.line_before + line if number == 0 else line
        if whole.strip() == below:
            return "\n".join(lines[:number]).rstrip()
    return text


def drop_repeated_previous(text: str, place: Place) -> str:
    """Nothing where the line above would be said again."""
    first = (place.line_before + text.partition("\n")[0]).rstrip()
    return "" if first.strip() and first == place.previous_line.rstrip() else text


def drop_loop(text: str, place: Place) -> str:
    """Nothing where the model runs in circles: one piece four times in a row."""
    return "" if _LOOP.search(text) else text


STEPS: tuple[Step, ...] = (
    cut_at_sentinel,
    one_line_inside_a_line,
    stay_on_the_line,
    drop_double_space,
    trim_end,
    trim_overlap,
    fit_into_word,
    drop_closers_alone,
    drop_repeated_next,
    drop_repeated_previous,
    drop_loop,
)


def _may_end(kept: str, next_char: str, place: Place) -> bool:
    """Whether `next_char`, which stands right of the cursor, can follow `kept`."""
    if next_char in QUOTES:
        return inside_quotes(place.line_before + kept) == next_char
    return not open_brackets(kept)


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"

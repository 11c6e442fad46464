"""Steps at a suggestion's ends: what must not be shown, what stands there already, and
what does not fit the cursor's line. Each is a pure function of the text and the place.
"""

from __future__ import annotations

import re

from tabwise_server.suggest.brackets import (
    CLOSERS,
    QUOTES,
    inside_quotes,
    open_brackets,
    stray_closer,
)
from tabwise_server.suggest.place import Place, opens_block

# Our sentinels and those of other model families, cut wherever they begin.
_SENTINEL = re.compile(
    r"<[|｜][A-Za-z_▁ ]+[|｜]>|"
    r"<(?:fim_[a-z]+|file_sep|repo_name|PRE|SUF|MID|EOT|END|/?s|pad|unk)>"
    r"|\[/?(?:PREFIX|SUFFIX|MIDDLE|INST)\]"
)


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
    if not is_word(after):
        return text
    return "" if is_word(before) or is_word(text[-1:]) else text


def drop_closers_alone(text: str, place: Place) -> str:
    """Nothing where only closing brackets or punctuation would be shown."""
    return text if text.strip().strip(")]}>,;:.'\"`") else ""


def drop_short(text: str, place: Place, min_visible_chars: int) -> str:
    """Nothing where too little would be shown to be worth a glance."""
    return text if len("".join(text.split())) >= min_visible_chars else ""


def is_word(char: str) -> bool:
    """Whether `char` can stand in a name; "" cannot."""
    return char.isalnum() or char == "_"


def _may_end(kept: str, next_char: str, place: Place) -> bool:
    """Whether `next_char`, which stands right of the cursor, can follow `kept`."""
    if next_char in QUOTES:
        return inside_quotes(place.line_before + kept) == next_char
    return not open_brackets(kept)

"""Cursors as an editor has them: at a line's end, in a block to be written, between
brackets that the editor closed itself, inside a line, and behind one that is complete.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import attrs
import numpy as np

from tabwise_server.suggest.place import Place
from tabwise_training.evaluation.bodies import draw_bodies
from tabwise_training.evaluation.positions import draw_positions

CursorKind = Literal["line", "block", "closed bracket", "inside", "complete line"]
_TOKEN = re.compile(r"\w+|[^\w\s]")
_PAIRS = ("()", "[]", "{}")
LINE_SHARE, BLOCK_SHARE = 0.5, 0.15  # the other kinds share the rest
MAX_REMOVED = 4  # tokens inside a line


@attrs.frozen(kw_only=True)
class Cursor:
    """truth: what stood at the place; "" where nothing is missing."""

    kind: CursorKind
    place: Place
    truth: str

    def is_right(self, text: str) -> bool:
        """Whether `text` is what stood there, or its first whole lines."""
        text = text.rstrip()
        if self.place.line_after.strip():
            return bool(text) and text == self.truth.rstrip()
        return bool(text) and f"{self.truth}\n".startswith(text + "\n")


def draw_cursors(
    documents: Sequence[tuple[str, str]], count: int, seed: int
) -> list[Cursor]:
    """About `count` cursors over (path, text) documents; the same for the same seed."""
    lines = draw_positions(documents, round(count * LINE_SHARE), seed)
    found = [
        Cursor(kind="line", place=_place(p.prefix, p.suffix, p.path), truth=p.truth)
        for p in lines
    ]
    found += [
        Cursor(
            kind="block",
            place=_place(body.prefix, body.suffix, body.path),
            truth="\n".join(body.truth),
        )
        for body in draw_bodies(documents, round(count * BLOCK_SHARE), seed)
    ]
    return found + _draw_mid_line(documents, count - len(found), seed)


def _draw_mid_line(
    documents: Sequence[tuple[str, str]], count: int, seed: int
) -> list[Cursor]:
    rng = np.random.default_rng(seed)
    makers = (_closed_bracket, _inside, _complete_line)
    found: list[Cursor] = []
    for position in draw_positions(documents, 12 * count, seed + 1):
        if len(found) == count:
            break
        if position.kind != "next line":
            continue
        cut = makers[len(found) % 3](position.truth, rng)
        if cut is None:
            continue
        kind, start, end = cut
        line = position.truth
        prefix, suffix = position.prefix + line[:start], line[end:] + position.suffix
        place = _place(prefix, suffix, position.path)
        found.append(Cursor(kind=kind, place=place, truth=line[start:end]))
    return found


Cut = tuple[CursorKind, int, int]


def _closed_bracket(line: str, rng: np.random.Generator) -> Cut | None:
    """Behind an opening bracket whose closer stands there already."""
    spans = [
        (at + 1, end)
        for at, char in enumerate(line)
        for pair in _PAIRS
        if char == pair[0] and (end := _closer(line, at, pair)) > at + 2
    ]
    if not spans:
        return None
    start, end = spans[int(rng.integers(len(spans)))]
    return "closed bracket", start, end


def _closer(line: str, at: int, pair: str) -> int:
    depth = 0
    for index in range(at, len(line)):
        depth += (line[index] == pair[0]) - (line[index] == pair[1])
        if depth == 0:
            return index
    return -1


def _inside(line: str, rng: np.random.Generator) -> Cut | None:
    """Where a few tokens are missing, with code on both sides."""
    tokens = list(_TOKEN.finditer(line))
    if len(tokens) < 4:
        return None
    first = int(rng.integers(1, len(tokens) - 2))
    last = min(first + int(rng.integers(MAX_REMOVED)), len(tokens) - 2)
    return "inside", tokens[first].start(), tokens[last].end()


def _complete_line(line: str, rng: np.random.Generator) -> Cut | None:
    """Behind a line that needs nothing more."""
    return "complete line", len(line), len(line)


def _place(prefix: str, suffix: str, path: str) -> Place:
    return Place(prefix=prefix, suffix=suffix, path=path, language="python")

"""Cursor positions in held-out files, and what a person would have typed there."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_training.errors import TrainingError

CursorKind = Literal["next line", "mid-line", "mid-identifier", "after . ( ="]
KINDS: tuple[CursorKind, ...] = (
    "next line",
    "mid-line",
    "mid-identifier",
    "after . ( =",
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{3,}")
_OPENER = re.compile(r"[.(=] ?(?=\S)")
MAX_DRAWS = 2_000  # for a position
MIN_VISIBLE = 4  # characters; shorter lines are not worth a suggestion


class NoPosition(TrainingError):
    """Documents without places to put a cursor; the message names the kind."""


@attrs.frozen(kw_only=True)
class Position:
    """One cursor. truth: the rest of its line, without trailing blanks.

    novel: the whole line (stripped) stands nowhere else in the file before the cursor.
    """

    kind: CursorKind
    path: str
    prefix: str
    suffix: str
    truth: str
    novel: bool


def draw_positions(
    documents: Sequence[tuple[str, str]], count: int, seed: int
) -> list[Position]:
    """`count` positions over (path, text) documents, kinds in equal shares.

    A document is drawn by its length, a line uniformly among those with something to
    predict; the same arguments give the same positions. Raises NoPosition.
    """
    rng = np.random.default_rng(seed)
    sizes = np.array([len(text) for _, text in documents], float)
    if not sizes.sum():
        raise NoPosition("the documents are empty; give some with code")
    shares = sizes / sizes.sum()
    kinds = itertools.islice(itertools.cycle(KINDS), count)
    return [_draw_kind(documents, shares, kind, rng) for kind in kinds]


def kinds_in(text: str) -> frozenset[CursorKind]:
    """The kinds of cursor that some line of the text has a place for."""
    lines = text.split("\n")
    return frozenset(k for k in KINDS if any(_columns(line, k) for line in lines))


def _draw_kind(
    documents: Sequence[tuple[str, str]],
    shares: npt.NDArray[np.float64],
    kind: CursorKind,
    rng: np.random.Generator,
) -> Position:
    """shares: how often each document is drawn, together 1."""
    for _ in range(MAX_DRAWS):
        path, text = documents[int(rng.choice(len(shares), p=shares))]
        position = _draw_one(path, text, kind, rng)
        if position is not None:
            return position
    raise NoPosition(
        f'hardly a line has a place for a cursor of the kind "{kind}" '
        f"(documents: {len(shares)}); give more code"
    )


def _draw_one(
    path: str, text: str, kind: CursorKind, rng: np.random.Generator
) -> Position | None:
    lines = text.split("\n")
    number = int(rng.integers(len(lines)))
    line = lines[number]
    columns = _columns(line, kind)
    if not columns:
        return None
    column = columns[int(rng.integers(len(columns)))]
    before = lines[:number]
    return Position(
        kind=kind,
        path=path,
        prefix="\n".join([*before, line[:column]]),
        suffix="\n".join(["", *lines[number + 1 :]]),
        truth=line[column:].rstrip(),
        novel=line.strip() not in {other.strip() for other in before},
    )


def _columns(line: str, kind: CursorKind) -> list[int]:
    """Columns of `line` where a cursor of this kind can stand, something following;
    none of a comment or a line that is short."""
    visible = line.strip()
    if len(visible) < MIN_VISIBLE or visible.startswith("#"):
        return []
    start, end = len(line) - len(line.lstrip()), len(line.rstrip())
    if kind == "next line":
        return [start]
    if kind == "mid-line":
        return list(range(start + 1, end))
    if kind == "mid-identifier":
        words = _IDENTIFIER.finditer(line)
        return [c for word in words for c in range(word.start() + 1, word.end())]
    return [m.end() for m in _OPENER.finditer(line) if start < m.end() < end]

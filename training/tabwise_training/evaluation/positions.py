"""Cursor positions in held-out files, and what a person would have typed there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import attrs
import numpy as np

CursorKind = Literal["next line", "mid-line", "mid-identifier", "after . ( ="]
KINDS: tuple[CursorKind, ...] = (
    "next line",
    "mid-line",
    "mid-identifier",
    "after . ( =",
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{3,}")
_OPENER = re.compile(r"[.(=] ?(?=\S)")
MIN_VISIBLE = 4  # characters; shorter lines are not worth a suggestion


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
    predict; the same arguments give the same positions.
    """
    rng = np.random.default_rng(seed)
    sizes = np.array([len(text) for _, text in documents], float)
    found: list[Position] = []
    while len(found) < count:
        path, text = documents[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
        kind = KINDS[len(found) % len(KINDS)]
        position = _draw_one(path, text, kind, rng)
        if position is not None:
            found.append(position)
    return found


def _draw_one(
    path: str, text: str, kind: CursorKind, rng: np.random.Generator
) -> Position | None:
    lines = text.split("\n")
    number = int(rng.integers(len(lines)))
    line = lines[number]
    visible = line.strip()
    if len(visible) < MIN_VISIBLE or visible.startswith("#"):
        return None
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
        novel=visible not in {other.strip() for other in before},
    )


def _columns(line: str, kind: CursorKind) -> list[int]:
    """Columns of `line` where a cursor of this kind can stand, something following."""
    start, end = len(line) - len(line.lstrip()), len(line.rstrip())
    if kind == "next line":
        return [start]
    if kind == "mid-line":
        return list(range(start + 1, end))
    if kind == "mid-identifier":
        words = _IDENTIFIER.finditer(line)
        return [c for word in words for c in range(word.start() + 1, word.end())]
    return [m.end() for m in _OPENER.finditer(line) if start < m.end() < end]

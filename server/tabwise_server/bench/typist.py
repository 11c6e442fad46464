"""What one person does in a few files: types, mistypes and mends, pastes, undoes,
jumps about and changes files. Made beforehand, so that it can be done again exactly.

In each file some passages are missing. The person types them back in visits of a few
lines, each visit in another file or passage.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import Literal

import attrs

from tabwise_server.bench.users import key_gap

StrokeKind = Literal["type", "backspace", "paste", "undo", "jump"]

PASSAGES, PASSAGE_LINES = 2, 30
VISIT_KEYS = (30, 90)  # at least, at most
TYPO, UNDO = 0.02, 0.01  # of keystrokes
PASTE, PASTE_LINES = 0.08, 4  # of line ends
UNDONE = 8  # characters, at most


@attrs.frozen(kw_only=True)
class Stroke:
    """Replace file[start:end] by text, which leaves the cursor behind it; a jump only
    moves it. forward: typed right after another. gap_s: until the next."""

    kind: StrokeKind
    file: int
    start: int
    end: int
    text: str
    gap_s: float
    forward: bool


@attrs.define
class Passage:
    """A missing passage: where the cursor is in it, and what is still to be typed."""

    file: int
    at: int
    todo: str


def make_script(
    sources: Sequence[str], strokes: int, seed: int = 1
) -> tuple[list[str], list[Stroke]]:
    """The files as they are opened, and so many strokes, fewer if all is typed."""
    rng = random.Random(seed)
    opened, passages = [], []
    for number, source in enumerate(sources):
        text, missing = _open(source, number)
        opened.append(text)
        passages += missing
    typist = _Typist(rng, passages)
    while len(typist.strokes) < strokes and typist.visit():
        pass
    return opened, typist.strokes[:strokes]


def _open(source: str, file: int) -> tuple[str, list[Passage]]:
    """The file without its passages, which stand at equal distances. Of each, an empty
    line is left, on which its typing begins: behind the cursor its lines end."""
    lines = source.splitlines(keepends=True)
    kept, passages, done = "", [], 0
    for n in range(1, PASSAGES + 1):
        first = len(lines) * n // (PASSAGES + 1)
        kept += "".join(lines[done:first])
        done = min(first + PASSAGE_LINES, len(lines))
        missing = "".join(lines[first:done]).removesuffix("\n")
        passages.append(Passage(file, len(kept), missing))
        kept += "\n"
    return kept + "".join(lines[done:]), passages


class _Typist:
    """Collects strokes; keeps every passage's place right as others grow."""

    def __init__(self, rng: random.Random, passages: list[Passage]) -> None:
        self.strokes: list[Stroke] = []
        self._rng = rng
        self._passages = passages
        self._last: Passage | None = None

    def visit(self) -> bool:
        """Go to another passage and type there; False when nothing is left."""
        open_ones = [p for p in self._passages if p.todo]
        if not open_ones:
            return False
        others = [p for p in open_ones if p is not self._last] or open_ones
        passage = self._last = self._rng.choice(others)
        self._do(passage, "jump", 0, "")
        ends = len(self.strokes) + self._rng.randint(*VISIT_KEYS)
        while passage.todo and len(self.strokes) < ends:
            self._key(passage)
        return True

    def _key(self, passage: Passage) -> None:
        chance = self._rng.random()
        line_end = passage.todo.startswith("\n")
        if line_end and chance < PASTE:
            self._paste(passage)
        elif chance < TYPO:
            self._do(passage, "type", 0, self._rng.choice(string.ascii_lowercase))
            self._do(passage, "backspace", 1, "")
        elif chance < TYPO + UNDO:
            self._undo(passage)
        else:
            self._take(passage, "type", _one_key(passage.todo))

    def _paste(self, passage: Passage) -> None:
        lines = passage.todo.splitlines(keepends=True)[: PASTE_LINES + 1]
        self._take(passage, "paste", sum(map(len, lines)))

    def _undo(self, passage: Passage) -> None:
        """Take back what was typed last in this visit, to be typed again."""
        typed = ""
        for stroke in reversed(self.strokes):
            if stroke.kind != "type" or len(stroke.text) != 1 or len(typed) >= UNDONE:
                break
            typed = stroke.text + typed
        if typed:
            self._do(passage, "undo", len(typed), "")
            passage.todo = typed + passage.todo

    def _take(self, passage: Passage, kind: StrokeKind, count: int) -> None:
        text, passage.todo = passage.todo[:count], passage.todo[count:]
        self._do(passage, kind, 0, text)

    def _do(self, passage: Passage, kind: StrokeKind, removed: int, text: str) -> None:
        """Add a stroke that replaces `removed` characters before the cursor."""
        before = self.strokes[-1].kind if self.strokes else "jump"
        start = passage.at - removed
        self.strokes.append(
            Stroke(
                kind=kind,
                file=passage.file,
                start=start,
                end=passage.at,
                text=text,
                gap_s=key_gap(self._rng),
                forward=kind == "type" and before == "type",
            )
        )
        for other in self._passages:
            if other.file == passage.file and other.at >= passage.at:
                other.at += len(text) - removed


def _one_key(todo: str) -> int:
    """How much one key brings: after Enter an editor indents by itself."""
    if not todo.startswith("\n"):
        return 1
    rest = todo[1:]
    return 1 + len(rest) - len(rest.lstrip(" \t"))

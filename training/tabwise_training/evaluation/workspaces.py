"""Whether remembering a workspace helps: the same cursors with the other files of
their package to copy from, as a daemon does it, and without."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import attrs
import numpy as np

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.infill import Hole, Wanted
from tabwise_model.repository import Repository
from tabwise_model.runners.protocol import Runner
from tabwise_server.suggest.levels import threshold
from tabwise_training.evaluation.generate import Completer, Completion
from tabwise_training.evaluation.positions import (
    NoPosition,
    Position,
    draw_positions,
)
from tabwise_training.evaluation.windows import hole_of


@attrs.define
class _Row:
    """Of one package: cursors, and how many were completed right without the other
    files and with them; gained, lost: by them alone."""

    package: str
    tokens: int
    n: int = 0
    novel: int = 0
    gained: int = 0
    lost: int = 0
    right: tuple[int, int] = (0, 0)
    right_novel: tuple[int, int] = (0, 0)
    shown: tuple[int, int] = (0, 0)
    right_shown: tuple[int, int] = (0, 0)

    def count(self, position: Position, found: tuple[Completion, Completion]) -> None:
        right = tuple(c.text.rstrip() == position.truth for c in found)
        shown = tuple(c.confidence >= threshold("balanced", None) for c in found)
        both = tuple(a and b for a, b in zip(right, shown, strict=True))
        self.n += 1
        self.novel += position.novel
        self.gained += right[1] > right[0]
        self.lost += right[0] > right[1]
        self.right = _plus(self.right, right)
        self.shown = _plus(self.shown, shown)
        self.right_shown = _plus(self.right_shown, both)
        if position.novel:
            self.right_novel = _plus(self.right_novel, right)

    def __str__(self) -> str:
        cells = [f"{self.package} | {self.tokens:,}"]
        cells += [_pair(self.right, self.n), f"{self.gained}, {self.lost}"]
        cells += [_pair(self.right_novel, self.novel)]
        cells += [_pair(self.shown), _pair(self.right_shown)]
        return f"| {' | '.join(cells)} |"


def study_workspaces(
    runner: Runner,
    checkpoint: Checkpoint,
    documents: Sequence[tuple[str, str]],
    count: int,
    seed: int = 0,
) -> str:
    """A row for each package and one for all, as Markdown."""
    packages: dict[str, dict[str, str]] = defaultdict(dict)
    for path, text in documents:
        packages[path.split("/")[0]][path] = text
    completer = Completer(runner, checkpoint)
    whole = _Row("all", 0)
    lines = [
        "| package | tokens | right, without and with | gained, lost "
        "| of novel lines | shown at balanced | of these right |",
        "|---|---|---|---|---|---|---|",
    ]
    for package, files in sorted(packages.items()):
        try:
            positions = draw_positions([*files.items()], count // len(packages), seed)
        except NoPosition:  # a package of imports alone shows nothing
            continue
        encode = checkpoint.tokenizer.encode
        repository = Repository.of(
            {path: np.array(encode(text), np.int32) for path, text in files.items()}
        )
        row = _Row(package, repository.remembered.tokens)
        holes = [Hole(prefix=p, suffix=s) for p, s in map(hole_of, positions)]
        asked = [(hole, Wanted()) for hole in holes]
        others = [repository.without(position.path) for position in positions]
        without = completer.answer(asked, label=f"{package}, without")
        remembering = completer.answer(asked, remembered=others, label="with")
        for position, *found in zip(positions, without, remembering, strict=True):
            for one in (row, whole):
                one.count(position, (found[0], found[1]))
        whole.tokens += row.tokens
        lines.append(str(row))
    return "\n".join([*lines, str(whole)])


def _plus(one: tuple[int, int], other: tuple[bool, ...]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def _pair(pair: tuple[int, int], n: int | None = None) -> str:
    return f"{pair[0]}, {pair[1]}" + (f" of {n}" if n is not None else "")

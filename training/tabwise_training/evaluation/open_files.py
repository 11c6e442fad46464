"""Whether pieces of other open files help: the same cursors with and without them.

Open files are ten of the cursor's own package: some that its file imports, some of its
folder, others by chance.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.runners.protocol import Runner
from tabwise_server.suggest.context import ContextOptions, OtherFile, choose_context
from tabwise_server.suggest.imports import imported_files
from tabwise_server.suggest.prompt import PromptOptions, build_request
from tabwise_training.evaluation.asked import answer_all
from tabwise_training.evaluation.cursors import Cursor, draw_cursors

BUDGETS = (0, 400, 800)  # characters
OPEN, IMPORTED, NEIGHBOURS = 10, 6, 4
SUREST = 5  # one in so many


def study_open_files(
    runner: Runner,
    checkpoint: Checkpoint,
    documents: Sequence[tuple[str, str]],
    count: int,
    seed: int = 0,
) -> str:
    """A row for each budget of context, as Markdown; cursors are at line ends."""
    files = {
        path: OtherFile(path=path, text=text, language="python")
        for path, text in documents
    }
    drawn = draw_cursors(documents, 2 * count, seed)
    cursors = [cursor for cursor in drawn if cursor.kind == "line"][:count]
    rng = random.Random(seed)
    others = [_open_beside(cursor, files, rng) for cursor in cursors]
    lines = [
        "| context, characters | cursors with a chunk | exact "
        "| right of the surest fifth | gained | lost |",
        "|---|---|---|---|---|---|",
    ]
    without: list[bool] = []
    for budget in BUDGETS:
        row, right = _measure(runner, checkpoint, cursors, others, budget)
        without = without or right
        pairs = list(zip(without, right, strict=True))
        gained = sum(now and not then for then, now in pairs)
        lost = sum(then and not now for then, now in pairs)
        lines.append(f"| {row} | {gained} | {lost} |")
    return "\n".join(lines)


def _measure(
    runner: Runner,
    checkpoint: Checkpoint,
    cursors: Sequence[Cursor],
    others: Sequence[Sequence[OtherFile]],
    budget: int,
) -> tuple[str, list[bool]]:
    """The row's first cells, and which cursors were completed right."""
    options = ContextOptions(max_chars=budget)
    chosen = [
        choose_context(cursor.place, files, options).chunks
        for cursor, files in zip(cursors, others, strict=True)
    ]
    requests = [
        build_request(cursor.place, PromptOptions(), None, chunks)
        for cursor, chunks in zip(cursors, chosen, strict=True)
    ]
    found = answer_all(runner, checkpoint, requests, label=f"{budget} characters")
    right = [c.is_right(f.text) for c, f in zip(cursors, found, strict=True)]
    ranked = sorted(zip((f.confidence for f in found), right, strict=True))
    surest = ranked[-max(1, len(ranked) // SUREST) :]
    cells = (
        str(budget),
        str(sum(map(bool, chosen))),
        f"{sum(right)} of {len(right)}",
        f"{sum(good for _, good in surest)} of {len(surest)}",
    )
    return " | ".join(cells), right


def _open_beside(
    cursor: Cursor, files: Mapping[str, OtherFile], rng: random.Random
) -> list[OtherFile]:
    """The files that are open beside the cursor's own."""
    own = PurePosixPath(cursor.place.path or "")
    package = [
        path
        for path in files
        if path != str(own) and PurePosixPath(path).parts[0] == own.parts[0]
    ]
    imported = [package[n] for n in sorted(imported_files(cursor.place, package))]
    near = [path for path in package if PurePosixPath(path).parent == own.parent]
    chosen = imported[:IMPORTED] + rng.sample(near, min(len(near), NEIGHBOURS))
    chosen += rng.sample(package, min(len(package), OPEN))
    return [files[path] for path in list(dict.fromkeys(chosen))[:OPEN]]

"""What each part of decoding is worth, one by one, at the same cursors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.runners.protocol import Runner
from tabwise_training.evaluation.generate import Completer
from tabwise_training.evaluation.positions import Position
from tabwise_training.evaluation.tables import measure
from tabwise_training.evaluation.windows import hole_of


@attrs.frozen
class Variant:
    """One way of decoding. width: lines carried on at once."""

    name: str
    width: int
    copying: bool


VARIANTS = (
    Variant("greedy", 1, False),
    Variant("search, 2 lines", 2, False),
    Variant("search, 4 lines", 4, False),
    Variant("greedy, copying", 1, True),
    Variant("search, 2 lines, copying", 2, True),
    Variant("search, 4 lines, copying", 4, True),
    Variant("search, 8 lines, copying", 8, True),
)


def measure_decoding(
    runner: Runner, checkpoint: Checkpoint, positions: Sequence[Position]
) -> list[dict[str, Any]]:
    """A row of figures for each variant."""
    holes = [hole_of(position) for position in positions]
    rows = []
    for variant in VARIANTS:
        completer = Completer(
            runner, checkpoint, width=variant.width, copying=variant.copying
        )
        found = completer.complete(holes, label=variant.name)
        rows.append({"variant": variant.name, **measure(positions, found)})
    return rows


def decoding_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [
        "| decoding | exact | novel | next line | mid-line | right of the surest 15 % "
        "| 30 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        exact = [
            f"{row[group]['exact_match']['value']:.1%}"
            for group in ("all", "novel", "next line", "mid-line")
        ]
        surest = [
            f"{point['precision']['value']:.1%}"
            for point in row["precision_by_coverage"]
            if round(point["coverage"], 2) in (0.15, 0.3)
        ]
        lines.append(f"| {' | '.join([row['variant'], *exact, *surest])} |")
    return "\n".join(lines)

"""What a line's beginning is worth where no whole line is likely enough: at each level,
without and with it, at single cursors and over lines that are typed key by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.infill import Hole, Wanted
from tabwise_model.runners.protocol import Runner
from tabwise_server.suggest.levels import PARTS, THRESHOLDS
from tabwise_server.suggest.shape import ShapeOptions, shape
from tabwise_training.evaluation.generate import Completer
from tabwise_training.evaluation.keystrokes import keystrokes_saved
from tabwise_training.evaluation.metrics import Share, share_json
from tabwise_training.evaluation.positions import Position
from tabwise_training.evaluation.shown import place_of, shown_text


def measure_parts(
    runner: Runner, checkpoint: Checkpoint, positions: Sequence[Position]
) -> list[dict[str, Any]]:
    """A row of figures for each level, without and with parts. What begins the rest of
    the line counts as right."""
    rows = []
    for level, least in THRESHOLDS.items():
        for part in (None, PARTS[level]):
            wanted = Wanted(min_probability=least, min_part_probability=part)
            completer = Completer(runner, checkpoint)
            found = _at_cursors(completer, wanted, positions)
            rows.append({"level": level, "part": part, **found})
            lines = [p for p in positions if p.kind == "next line"]
            rows[-1]["typed"] = _typed(completer, wanted, lines)
    return rows


def _at_cursors(
    completer: Completer, wanted: Wanted, positions: Sequence[Position]
) -> dict[str, Any]:
    holes = [(Hole(prefix=p.prefix, suffix=p.suffix), wanted) for p in positions]
    options = ShapeOptions(min_confidence=wanted.min_probability)
    found = completer.answer(holes, label="cursors")
    texts = [shown_text(p, c, options) for p, c in zip(positions, found, strict=True)]
    shown = [(p, text) for p, text in zip(positions, texts, strict=True) if text]
    right = sum(p.truth.startswith(text.rstrip()) for p, text in shown)
    return {
        "shown": share_json(Share(len(shown), len(positions))),
        "right": share_json(Share(right, len(shown))),
    }


def _typed(
    completer: Completer, wanted: Wanted, lines: Sequence[Position]
) -> dict[str, Any]:
    options = ShapeOptions(min_confidence=wanted.min_probability)

    def suggest(prefix: str, suffix: str, path: str) -> str | None:
        (found,) = completer.answer([(Hole(prefix=prefix, suffix=suffix), wanted)])
        place = place_of(prefix, suffix, path)
        return shape(found.text, place, found.confidence, options)

    return keystrokes_saved(lines, suggest)


def parts_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [
        "| level | a beginning's threshold | shown | of these right | keys saved |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        part = "none" if row["part"] is None else f"{row['part']:g}"
        saved = "{value:.1%} ({low:.1%}–{high:.1%})".format_map(row["typed"])
        cells = [row["level"], part, _say(row["shown"]), _say(row["right"]), saved]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _say(share: dict[str, Any]) -> str:
    hits = round(share["value"] * share["n"])
    return f"{share['value']:.1%} ({hits} of {share['n']})"

"""What a line's beginning is worth where no whole line is likely enough: at each level,
without and with it, at single cursors and over lines that are typed key by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.infill import Hole, Wanted
from tabwise_model.runners.protocol import Runner
from tabwise_server.suggest.levels import PARTS, THRESHOLDS
from tabwise_server.suggest.shape import ShapeOptions
from tabwise_training.evaluation.generate import Completer
from tabwise_training.evaluation.keystrokes import keystrokes_saved
from tabwise_training.evaluation.metrics import Share, share_json
from tabwise_training.evaluation.positions import Position
from tabwise_training.evaluation.shown import shown_text


def measure_parts(
    runner: Runner, checkpoint: Checkpoint, positions: Sequence[Position]
) -> list[dict[str, Any]]:
    """A row of figures for each level, without and with parts. What begins the rest of
    the line counts as right."""
    rows = []
    lines = [position for position in positions if position.kind == "next line"]
    for level, least in THRESHOLDS.items():
        for part in (None, PARTS[level]):
            wanted = Wanted(min_probability=least, min_part_probability=part)
            completer = Completer(runner, checkpoint)
            found = _at_cursors(completer, wanted, positions)
            typed = _while_typing(completer, wanted, lines)
            rows.append({"level": level, "threshold": part, **found, **typed})
    return rows


def _at_cursors(
    completer: Completer, wanted: Wanted, positions: Sequence[Position]
) -> dict[str, Any]:
    """How many suggestions are shown, and how many of them are right."""
    found = completer.answer([(_hole(p), wanted) for p in positions], label="cursors")
    options = ShapeOptions(min_confidence=wanted.min_probability)
    texts = [shown_text(p, c, options) for p, c in zip(positions, found, strict=True)]
    shown = [(p, text) for p, text in zip(positions, texts, strict=True) if text]
    right = sum(p.truth.startswith(text.rstrip()) for p, text in shown)
    return {
        "shown": share_json(Share(len(shown), len(positions))),
        "right": share_json(Share(right, len(shown))),
    }


def _while_typing(
    completer: Completer, wanted: Wanted, lines: Sequence[Position]
) -> dict[str, Any]:
    """Keys saved, and of the beginnings that were shown, how many were right."""
    options = ShapeOptions(min_confidence=wanted.min_probability)
    right: list[bool] = []

    def suggest(here: Position) -> str | None:
        (found,) = completer.answer([(_hole(here), wanted)])
        text = shown_text(here, found, options)
        if text and found.part:
            right.append(here.truth.startswith(text.rstrip()))
        return text

    saved = keystrokes_saved(lines, suggest)
    return {"saved": saved, "parts": share_json(Share(sum(right), len(right)))}


def _hole(position: Position) -> Hole:
    return Hole(prefix=position.prefix, suffix=position.suffix)


def parts_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [
        "| level | a beginning's threshold | shown | of these right | keys saved "
        "| beginnings shown while typing, right |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        part = "none" if row["threshold"] is None else f"{row['threshold']:g}"
        saved = "{value:.1%} ({low:.1%}–{high:.1%})".format_map(row["saved"])
        shares = [_say(row[name]) for name in ("shown", "right", "parts")]
        cells = [row["level"], part, *shares[:2], saved, shares[2]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _say(share: dict[str, Any]) -> str:
    hits = round(share["value"] * share["n"])
    return f"{share['value']:.1%} ({hits} of {share['n']})"

"""What each level shows, and the thresholds that do best while lines are typed.

A level has two thresholds: of a whole line, and of the beginning of one where no whole
line reaches the first. They are chosen together: what a whole line that is not very
likely would get wrong, its beginning mostly gets right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.infill import Hole, Wanted
from tabwise_model.runners.protocol import Runner
from tabwise_server.suggest.levels import PARTS, THRESHOLDS
from tabwise_server.suggest.shape import ShapeOptions
from tabwise_training.errors import TrainingError
from tabwise_training.evaluation.generate import Completer
from tabwise_training.evaluation.keystrokes import keystrokes_saved, type_line
from tabwise_training.evaluation.metrics import Share, share_json
from tabwise_training.evaluation.positions import Position
from tabwise_training.evaluation.shown import shown_text

# Of what a level suggests while lines are typed, at least this share is right.
TARGETS: Mapping[str, float] = MappingProxyType(
    {"quiet": 0.9, "balanced": 0.8, "eager": 0.7}
)
WHOLE = (0.25, 0.35, 0.45, 0.5, 0.55, 0.6, 0.7)
BEYOND = (0.0, 0.05, 0.1)  # a beginning's threshold above a whole line's
TYPED = "next line"  # the kind of position from which lines are typed


def measure_levels(
    runner: Runner, checkpoint: Checkpoint, positions: Sequence[Position]
) -> list[dict[str, Any]]:
    """A row of figures for each level, with whole lines alone and with beginnings."""
    completer = Completer(runner, checkpoint)
    return [
        {"level": level, "whole": whole, "part": part}
        | _at_cursors(completer, whole, part, positions)
        | _while_typing(completer, whole, part, positions)
        for level, whole in THRESHOLDS.items()
        for part in (None, PARTS[level])
    ]


def measure_thresholds(
    runner: Runner, checkpoint: Checkpoint, positions: Sequence[Position]
) -> list[dict[str, Any]]:
    """A row of figures for each pair of thresholds, while lines are typed."""
    completer = Completer(runner, checkpoint)
    pairs = [(whole, round(whole + beyond, 2)) for whole in WHOLE for beyond in BEYOND]
    return [
        {"whole": whole, "part": part}
        | _while_typing(completer, whole, part, positions)
        for whole, part in pairs
    ]


def choose_thresholds(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each level, of the pairs that meet its target the one that saves most keys;
    none where none does."""
    chosen = {}
    for level, target in TARGETS.items():
        fit = [row for row in rows if row["suggestions"]["value"] >= target]
        if fit:
            chosen[level] = max(fit, key=lambda row: row["saved"]["value"])
    return chosen


def _at_cursors(
    completer: Completer,
    whole: float,
    part: float | None,
    positions: Sequence[Position],
) -> dict[str, Any]:
    """How many suggestions are shown, and how many of them the rest of the line begins
    with."""
    wanted = Wanted(min_probability=whole, min_part_probability=part)
    options = ShapeOptions(min_confidence=whole)
    found = completer.answer([(_hole(p), wanted) for p in positions], label="cursors")
    texts = [shown_text(p, c, options) for p, c in zip(positions, found, strict=True)]
    shown = [(p, text) for p, text in zip(positions, texts, strict=True) if text]
    right = sum(p.truth.startswith(text.rstrip()) for p, text in shown)
    return {
        "shown": share_json(Share(len(shown), len(positions))),
        "right": share_json(Share(right, len(shown))),
    }


def _while_typing(
    completer: Completer,
    whole: float,
    part: float | None,
    positions: Sequence[Position],
) -> dict[str, Any]:
    """Keys saved; how many suggestions were right; before how many keys one stood.
    Raises TrainingError where no line can be typed."""
    wanted = Wanted(min_probability=whole, min_part_probability=part)
    options = ShapeOptions(min_confidence=whole)

    def suggest(here: Position) -> str | None:
        (found,) = completer.answer([(_hole(here), wanted)])
        return shown_text(here, found, options)

    typed = [type_line(p, suggest) for p in positions if p.kind == TYPED]
    suggestions = [one for line in typed for one in line.suggestions]
    if not typed:
        raise TrainingError("no line to type among the positions; give more of them")
    keys, keys_with = sum(t.keys for t in typed), sum(t.keys_with for t in typed)
    return {
        "saved": keystrokes_saved(typed),
        "suggestions": share_json(Share(sum(suggestions), len(suggestions))),
        "with": share_json(Share(keys_with, keys)),
    }


def _hole(position: Position) -> Hole:
    return Hole(prefix=position.prefix, suffix=position.suffix)


def levels_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [f"| level {PAIR}| shown | of these right {TYPING}", "|---" * 8 + "|"]
    for row in rows:
        cursors = f"{_say(row['shown'])} | {_say(row['right'])}"
        lines.append(f"| {row['level']} | {_pair(row)} | {cursors} | {_typing(row)} |")
    return "\n".join(lines)


def thresholds_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table, and what is chosen for each level."""
    lines = [f"{PAIR}{TYPING}", "|---" * 5 + "|"]
    lines += [f"| {_pair(row)} | {_typing(row)} |" for row in rows]
    for level, row in choose_thresholds(rows).items():
        lines += ["", f"{level}, {TARGETS[level]:.0%}: {_pair(row)}"]
    return "\n".join(lines)


PAIR = "| whole line | beginning "
TYPING = "| keys saved | suggestions while typing, right | keys with one |"


def _pair(row: dict[str, Any]) -> str:
    part = "none" if row["part"] is None else f"{row['part']:g}"
    return f"{row['whole']:g} | {part}"


def _typing(row: dict[str, Any]) -> str:
    saved = "{value:.1%} ({low:.1%}–{high:.1%})".format_map(row["saved"])
    return f"{saved} | {_say(row['suggestions'])} | {row['with']['value']:.1%}"


def _say(share: dict[str, Any]) -> str:
    hits = round(share["value"] * share["n"])
    return f"{share['value']:.1%} ({hits} of {share['n']})"

"""What each step between a completion and the screen does to precision and coverage,
and the confidence that each level asks for.

A step's effect is measured by leaving it out alone: what would then show besides, and
how much of it is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import get_args

import attrs

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.runners.protocol import Runner
from tabwise_server.suggest.prompt import PromptOptions, build_request
from tabwise_server.suggest.shape import ShapeOptions, Step, steps_for
from tabwise_training.evaluation.asked import answer_all
from tabwise_training.evaluation.cursors import Cursor, CursorKind, draw_cursors
from tabwise_training.evaluation.generate import Completion
from tabwise_training.evaluation.metrics import Share

# Of what a level shows, at least this share is exactly right on validation packages.
TARGETS: Mapping[str, float] = MappingProxyType(
    {"quiet": 0.8, "balanced": 2 / 3, "eager": 0.5}
)
Documents = Sequence[tuple[str, str]]
Memo = dict[tuple[int, str], str]

MIN_SHOWN = 20  # fewer tell nothing about a threshold


@attrs.frozen(kw_only=True)
class Effect:
    """One step. fires: it changed what reached it; drops: to nothing.

    without: what shows, and how much of it is right, when it is left out.
    """

    step: str
    fires: int
    drops: int
    shown_without: Share
    right_without: Share


@attrs.frozen(kw_only=True)
class FilterFigures:
    """raw: completions as they come; all_steps: as they are shown."""

    shown_raw: Share
    right_raw: Share
    shown: Share
    right: Share
    effects: Sequence[Effect]


def measure_filters(
    cursors: Sequence[Cursor], found: Sequence[Completion], min_confidence: float
) -> FilterFigures:
    """Every step's effect with all others in place."""
    options = ShapeOptions(min_confidence=min_confidence)
    names = list(steps_for(1.0, options))
    fires, drops = _count(cursors, found, options)
    memo: Memo = {}
    effects = []
    for name in names:
        shown, right = _shares(cursors, found, options, name, memo)
        effects.append(
            Effect(
                step=name,
                fires=fires[name],
                drops=drops[name],
                shown_without=shown,
                right_without=right,
            )
        )
    said = [(c, f.text) for c, f in zip(cursors, found, strict=True) if f.text.strip()]
    right_raw = Share(sum(c.is_right(text) for c, text in said), len(said))
    shown, right = _shares(cursors, found, options, None, memo)
    return FilterFigures(
        shown_raw=Share(len(said), len(cursors)),
        right_raw=right_raw,
        shown=shown,
        right=right,
        effects=effects,
    )


def choose_thresholds(
    cursors: Sequence[Cursor], found: Sequence[Completion]
) -> dict[str, float]:
    """The lowest confidence from which on each level's target is met."""
    ranked = sorted(
        (
            (completion.confidence, cursor.is_right(text))
            for cursor, completion in zip(cursors, found, strict=True)
            if (text := shown_text(cursor, completion, ShapeOptions()))
        ),
        reverse=True,
    )
    chosen = {level: 1.0 for level in TARGETS}
    right = 0
    for count, (confidence, is_right) in enumerate(ranked, start=1):
        right += is_right
        for level, target in TARGETS.items():
            if count >= MIN_SHOWN and right >= target * count:
                chosen[level] = confidence
    return chosen


def shown_text(
    cursor: Cursor,
    completion: Completion,
    options: ShapeOptions,
    without: str | None = None,
    memo: Memo | None = None,
) -> str:
    """What would show with the step `without` left out; "" for nothing. memo: what is
    known of the same cursors' syntax."""
    steps: Mapping[str, Step] = steps_for(completion.confidence, options)
    text = completion.text
    known = {} if memo is None else memo
    for name, step in steps.items():
        if name == without:
            continue
        if name == "syntax":  # by far the dearest; the texts are few
            key = (id(cursor), text)
            if key not in known:
                known[key] = step(text, cursor.place)
            text = known[key]
        else:
            text = step(text, cursor.place)
        if not text.strip():
            return ""
    return text


def _count(
    cursors: Sequence[Cursor], found: Sequence[Completion], options: ShapeOptions
) -> tuple[Counter[str], Counter[str]]:
    """How often each step changes what reaches it, and leaves nothing of it."""
    fires: Counter[str] = Counter()
    drops: Counter[str] = Counter()
    for cursor, completion in zip(cursors, found, strict=True):
        text = completion.text
        for name, step in steps_for(completion.confidence, options).items():
            if not text.strip():
                break
            after = step(text, cursor.place)
            fires[name] += after != text
            drops[name] += not after
            text = after
    return fires, drops


def _shares(
    cursors: Sequence[Cursor],
    found: Sequence[Completion],
    options: ShapeOptions,
    without: str | None,
    memo: Memo | None = None,
) -> tuple[Share, Share]:
    texts = [
        (cursor, shown_text(cursor, completion, options, without, memo))
        for cursor, completion in zip(cursors, found, strict=True)
    ]
    shown = [(cursor, text) for cursor, text in texts if text]
    right = sum(cursor.is_right(text) for cursor, text in shown)
    return Share(len(shown), len(texts)), Share(right, len(shown))


def study_filters(
    runner: Runner,
    checkpoint: Checkpoint,
    chosen_on: Documents,
    measured_on: Documents,
    count: int,
    seed: int = 0,
) -> str:
    """Thresholds chosen on one split, and the steps' table on the other, as Markdown:
    what `suggest/levels.py` and docs/suggestions.md hold."""
    cursors = draw_cursors(chosen_on, count, seed)
    found = _answers(runner, checkpoint, cursors, "validation")
    thresholds = choose_thresholds(cursors, found)
    cursors = draw_cursors(measured_on, count, seed)
    found = _answers(runner, checkpoint, cursors, "test")
    eager = measure_filters(cursors, found, 0.0)
    balanced = measure_filters(cursors, found, thresholds["balanced"])
    return "\n\n".join(
        [
            _level_table(cursors, found, thresholds),
            _kind_table(cursors, found, thresholds["balanced"]),
            _effect_table(eager, balanced),
        ]
    )


def _answers(
    runner: Runner, checkpoint: Checkpoint, cursors: Sequence[Cursor], label: str
) -> list[Completion]:
    requests = [build_request(cursor.place, PromptOptions()) for cursor in cursors]
    return answer_all(runner, checkpoint, requests, label=label)


def _level_table(
    cursors: Sequence[Cursor],
    found: Sequence[Completion],
    thresholds: Mapping[str, float],
) -> str:
    lines = [
        "| level | threshold | target on validation | shown on test | of these right |",
        "|---|---|---|---|---|",
    ]
    for level, threshold in thresholds.items():
        options = ShapeOptions(min_confidence=threshold)
        shown, right = _shares(cursors, found, options, None)
        lines.append(
            f"| {level} | {threshold:.3f} | {TARGETS[level]:.0%} "
            f"| {_per_cent(shown)} | {_per_cent(right)} |"
        )
    return "\n".join(lines)


def _kind_table(
    cursors: Sequence[Cursor], found: Sequence[Completion], min_confidence: float
) -> str:
    lines = ["| cursor | n | shown | of these right |", "|---|---|---|---|"]
    options = ShapeOptions(min_confidence=min_confidence)
    for kind in get_args(CursorKind):
        pairs = [p for p in zip(cursors, found, strict=True) if p[0].kind == kind]
        at, said = [c for c, _ in pairs], [f for _, f in pairs]
        shown, right = _shares(at, said, options, None)
        cells = (kind, str(len(at)), _per_cent(shown), _per_cent(right))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _effect_table(every: FilterFigures, sure: FilterFigures) -> str:
    """Side by side: whatever the confidence, and from the level `balanced` on."""
    lines = [
        "| step | changes | to nothing | shown without it | right without it "
        "| `balanced`: shown without it | right without it |",
        "|---|---|---|---|---|---|---|",
        f"| no step at all | | | {_per_cent(every.shown_raw)} "
        f"| {_per_cent(every.right_raw)} | | |",
        f"| **every step** | | | {_per_cent(every.shown)} | {_per_cent(every.right)} "
        f"| {_per_cent(sure.shown)} | {_per_cent(sure.right)} |",
    ]
    for one, other in zip(every.effects, sure.effects, strict=True):
        if one.step == "confidence":
            continue  # the two columns are its effect
        shares = (one.shown_without, one.right_without)
        more = (other.shown_without, other.right_without)
        cells = [one.step, str(one.fires), str(one.drops)]
        cells += [_per_cent(share) for share in (*shares, *more)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _per_cent(share: Share) -> str:
    return f"{share.value:.1%} ({share.hits} of {share.n})"

"""What each step between a completion and the screen does to precision and coverage,
and the confidence that each level asks for.

A step's effect is measured by leaving it out alone: what would then show besides, and
how much of it is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from tabwise_server.suggest.shape import ShapeOptions, Step, steps_for
from tabwise_training.evaluation.cursors import Cursor
from tabwise_training.evaluation.generate import Completion
from tabwise_training.evaluation.metrics import Share

# Of what a level shows, at least this share is exactly right on validation packages.
TARGETS: Mapping[str, float] = {"quiet": 0.7, "balanced": 0.5, "eager": 0.35}
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
    fires, drops = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for cursor, completion in zip(cursors, found, strict=True):
        text = completion.text
        for name, step in steps_for(completion.confidence, options).items():
            if not text.strip():
                break
            after = step(text, cursor.place)
            fires[name] += after != text
            drops[name] += not after
            text = after
    effects = [
        Effect(
            step=name,
            fires=fires[name],
            drops=drops[name],
            **dict(
                zip(
                    ("shown_without", "right_without"),
                    _shares(cursors, found, options, name),
                    strict=True,
                )
            ),
        )
        for name in names
    ]
    said = [(c, f.text) for c, f in zip(cursors, found, strict=True) if f.text.strip()]
    right_raw = Share(sum(c.is_right(text) for c, text in said), len(said))
    shown, right = _shares(cursors, found, options, None)
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
) -> str:
    """What would show with the step `without` left out; "" for nothing."""
    steps: Mapping[str, Step] = steps_for(completion.confidence, options)
    text = completion.text
    for name, step in steps.items():
        if name != without:
            text = step(text, cursor.place)
        if not text.strip():
            return ""
    return text


def _shares(
    cursors: Sequence[Cursor],
    found: Sequence[Completion],
    options: ShapeOptions,
    without: str | None,
) -> tuple[Share, Share]:
    texts = [
        (cursor, shown_text(cursor, completion, options, without))
        for cursor, completion in zip(cursors, found, strict=True)
    ]
    shown = [(cursor, text) for cursor, text in texts if text]
    right = sum(cursor.is_right(text) for cursor, text in shown)
    return Share(len(shown), len(texts)), Share(right, len(shown))

"""What each step between a completion and the screen does to precision and coverage, of
whole lines alone.

A step's effect is measured by leaving it out alone: what would then show besides, and
how much of it is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

import attrs

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.runners.protocol import Runner
from tabwise_server.suggest.levels import threshold
from tabwise_server.suggest.prompt import PromptOptions, build_request
from tabwise_server.suggest.shape import ShapeOptions, Step, steps_for
from tabwise_training.evaluation.asked import answer_all
from tabwise_training.evaluation.cursors import Cursor, CursorKind, draw_cursors
from tabwise_training.evaluation.generate import Completion
from tabwise_training.evaluation.metrics import Share

Documents = Sequence[tuple[str, str]]
Memo = dict[tuple[int, str], str]


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
    documents: Documents,
    count: int,
    seed: int = 0,
) -> str:
    """Kinds of cursors at the level `balanced`, and the steps' table, as Markdown."""
    cursors = draw_cursors(documents, count, seed)
    requests = [build_request(cursor.place, PromptOptions()) for cursor in cursors]
    found = answer_all(runner, checkpoint, requests, label="cursors")
    least = threshold("balanced")
    every = measure_filters(cursors, found, 0.0)
    balanced = measure_filters(cursors, found, least)
    tables = _kind_table(cursors, found, least), _effect_table(every, balanced)
    return "\n\n".join(tables)


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

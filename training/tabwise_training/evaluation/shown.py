"""What a person would see of completions, through the steps that the editor takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabwise_server.suggest.place import Place
from tabwise_server.suggest.shape import ShapeOptions, shape
from tabwise_server.suggest.syntax import keeps_syntax
from tabwise_training.evaluation.generate import Completion
from tabwise_training.evaluation.metrics import Share, share_json
from tabwise_training.evaluation.positions import Position


def shown_text(
    position: Position, completion: Completion, options: ShapeOptions | None = None
) -> str | None:
    """The suggestion that the editor would show, None for nothing."""
    place = place_of(position.prefix, position.suffix, position.path)
    return shape(
        completion.text, place, completion.confidence, options or ShapeOptions()
    )


def measure_shown(
    positions: Sequence[Position],
    found: Sequence[Completion],
    options: ShapeOptions | None = None,
) -> dict[str, Any]:
    """Share of positions with a suggestion, and how many of those are the rest of the
    line; and of all raw completions with text, how many parse no worse."""
    texts = [shown_text(p, c, options) for p, c in zip(positions, found, strict=True)]
    shown = [(p, t) for p, t in zip(positions, texts, strict=True) if t is not None]
    right = sum(text.rstrip() == position.truth for position, text in shown)
    said = [
        (place_of(p.prefix, p.suffix, p.path), c.text)
        for p, c in zip(positions, found, strict=True)
        if c.text.strip()
    ]
    parsed = sum(keeps_syntax(place, text) for place, text in said)
    return {
        "share": share_json(Share(len(shown), len(positions))),
        "precision": share_json(Share(right, len(shown))),
        "parses": share_json(Share(parsed, len(said))),
    }


def place_of(prefix: str, suffix: str, path: str) -> Place:
    return Place(prefix=prefix, suffix=suffix, path=path, language="python")

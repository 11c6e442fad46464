"""Keys that completions save someone who types whole lines of held-out files.

A line is typed from its indentation on, with what follows it in place. Before each key
a suggestion is asked for, and shaped as the editor does. One that the rest of the line
begins with, two characters or longer, is accepted by one key; otherwise a character is
typed. Saved is 1 - keys / characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from tabwise_training.evaluation.positions import Position

Suggest = Callable[[Position], str | None]  # typed so far -> shown text
RESAMPLES = 1000


@attrs.frozen(kw_only=True)
class TypedLine:
    """keys: that its characters took. keys_with: of these, before which something
    showed. suggestions: whether each was right; one that goes on while it is typed
    counts once."""

    characters: int
    keys: int
    keys_with: int
    suggestions: Sequence[bool]


def type_line(position: Position, suggest: Suggest) -> TypedLine:
    """The rest of a position's line, typed with what `suggest` shows."""
    truth = position.truth
    typed = keys = keys_with = 0
    suggestions: dict[str, bool] = {}  # whether it was right, by what the line becomes
    while typed < len(truth):
        before = truth[:typed]
        here = attrs.evolve(
            position, prefix=position.prefix + before, truth=truth[typed:]
        )
        text = suggest(here) or ""
        right = len(text) > 1 and truth.startswith(text, typed)
        if text:
            keys_with += 1
            suggestions[before + text] = right
        typed += len(text) if right else 1
        keys += 1
    return TypedLine(
        characters=len(truth),
        keys=keys,
        keys_with=keys_with,
        suggestions=tuple(suggestions.values()),
    )


def keystrokes_saved(lines: Sequence[TypedLine], seed: int = 0) -> dict[str, Any]:
    """Share of keys saved over all lines, with a 95 % interval by resampling lines."""
    keys = np.array([line.keys for line in lines], float)
    sizes = np.array([line.characters for line in lines], float)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(keys), size=(RESAMPLES, len(keys)))
    saved = 1 - keys[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(saved, [0.025, 0.975])
    return {
        "value": float(1 - keys.sum() / sizes.sum()),
        "low": float(low),
        "high": float(high),
        "n": len(keys),
        "characters": int(sizes.sum()),
    }

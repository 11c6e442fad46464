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

Suggest = Callable[
    [Position], str | None
]  # shown text, where the line was typed so far
RESAMPLES = 1000


def keys_of_line(position: Position, suggest: Suggest) -> int:
    """Keys that the rest of a position's line takes."""
    typed, keys = 0, 0
    truth = position.truth
    while typed < len(truth):
        prefix = position.prefix + truth[:typed]
        text = suggest(attrs.evolve(position, prefix=prefix, truth=truth[typed:]))
        right = text is not None and len(text) > 1 and truth.startswith(text, typed)
        typed += len(text) if text is not None and right else 1
        keys += 1
    return keys


def keystrokes_saved(
    positions: Sequence[Position], suggest: Suggest, seed: int = 0
) -> dict[str, Any]:
    """Share of keys saved over all lines, with a 95 % interval by resampling lines."""
    keys = np.array([keys_of_line(p, suggest) for p in positions], float)
    sizes = np.array([len(p.truth) for p in positions], float)
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

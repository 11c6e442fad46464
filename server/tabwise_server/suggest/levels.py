"""How sure the model must be before anything shows.

The thresholds are chosen on validation packages, never on test ones, by
`tabwise evaluate --study thresholds`; run it again for another checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# The probability of the very line below which it does not show.
THRESHOLDS: Mapping[str, float] = MappingProxyType(
    {"quiet": 0.7, "balanced": 0.5, "eager": 0.45}
)

# That of a line's beginning, where no whole line is as likely as that; not less.
PARTS: Mapping[str, float] = MappingProxyType(
    {"quiet": 0.75, "balanced": 0.6, "eager": 0.5}
)


def threshold(level: str, min_confidence: float | None = None) -> float:
    """The confidence that `level` asks for; `min_confidence` overrides it.

    Raises KeyError for a level that is none; settings let no such one through.

    >>> threshold("eager", 0.9)
    0.9
    """
    return THRESHOLDS[level] if min_confidence is None else min_confidence


def part_threshold(level: str, min_confidence: float | None = None) -> float:
    """The same of a line's beginning; it is not less than `min_confidence`.

    >>> part_threshold("eager"), part_threshold("eager", 0.9)
    (0.5, 0.9)
    """
    return max(PARTS[level], min_confidence or 0.0)

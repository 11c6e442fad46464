"""What became of each request, and percentiles that cancels do not flatter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import attrs

Kind = Literal["answered", "cancelled", "failed"]


@attrs.frozen
class Outcome:
    """One request. latency_s: since its scheduled time, until its answer, or until it
    was cancelled or refused."""

    latency_s: float
    kind: Kind


def quantile(outcomes: Sequence[Outcome], share: float) -> float | None:
    """The latency in milliseconds that `share` of requests keep under; None where that
    many were never answered.

    A cancelled request would have taken longer than it was waited for, that is all that
    is known; leaving it out would make a slow server look fast. Source: Kaplan and
    Meier's product-limit estimate, 1958. A failed or refused one has no answer, however
    long one waits, so a server that refuses whom it cannot answer soon is not fast.
    """
    waiting, surviving = len(outcomes), 1.0
    for one in sorted(outcomes, key=_until):
        if one.kind == "answered":
            surviving *= 1 - 1 / waiting
            if surviving <= 1 - share + 1e-12:
                return round(one.latency_s * 1000, 1)
        waiting -= 1
    return None


def _until(outcome: Outcome) -> tuple[float, bool]:
    """Until when it waited, answers first; forever where it failed."""
    failed = outcome.kind == "failed"
    return math.inf if failed else outcome.latency_s, outcome.kind != "answered"

"""What is counted about predictions, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
from rapidfuzz.distance import Levenshtein


@attrs.frozen
class Share:
    """hits of n, with its 95 % Wilson interval (all as shares of one)."""

    hits: int
    n: int

    @property
    def value(self) -> float:
        return self.hits / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Source: E. B. Wilson, JASA 22 (1927), with z = 1.96."""
        if not self.n:
            return 0.0, 1.0
        z, p, n = 1.96, self.value, self.n
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} [{low:.1%}, {high:.1%}] n={self.n}"


@attrs.frozen(kw_only=True)
class Prediction:
    """What a model said at a position; confidence None for a baseline without one."""

    text: str
    truth: str
    confidence: float | None = None

    @property
    def exact(self) -> bool:
        return self.text.rstrip() == self.truth

    @property
    def similarity(self) -> float:
        """1 - edit distance / longer length, in 0..1."""
        return float(Levenshtein.normalized_similarity(self.text.rstrip(), self.truth))

    @property
    def correct_prefix(self) -> float:
        """Share of the truth's characters that stand right at its beginning."""
        same = 0
        for a, b in zip(self.text, self.truth, strict=False):
            if a != b:
                break
            same += 1
        return same / len(self.truth)


def share_json(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {"value": share.value, "low": low, "high": high, "n": share.n}


def mean_json(values: Sequence[float]) -> dict[str, Any]:
    """The mean of values in 0..1 with a 95 % interval by the normal approximation."""
    n = len(values)
    mean = sum(values) / n
    spread = sum((v - mean) ** 2 for v in values) / max(1, n - 1)
    half = 1.96 * math.sqrt(spread / n)
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return {"value": mean, "low": low, "high": high, "n": n}


def exact_share(predictions: Sequence[Prediction]) -> Share:
    return Share(sum(p.exact for p in predictions), len(predictions))


@attrs.frozen
class Operating:
    """A confidence threshold: how many predictions it shows, and how many are right."""

    threshold: float
    shown: Share
    precise: Share


def operating_points(
    predictions: Sequence[Prediction], coverages: Sequence[float]
) -> list[Operating]:
    """The thresholds that show about these shares of all predictions."""
    ranked = sorted(predictions, key=lambda p: p.confidence or 0.0, reverse=True)
    points = []
    for coverage in coverages:
        shown = ranked[: max(1, round(coverage * len(ranked)))]
        points.append(
            Operating(
                shown[-1].confidence or 0.0,
                Share(len(shown), len(ranked)),
                exact_share(shown),
            )
        )
    return points

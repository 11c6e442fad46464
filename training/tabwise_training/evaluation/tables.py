"""Figures of predictions: over all positions, novel lines, and by kind of cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabwise_training.evaluation.generate import Completion
from tabwise_training.evaluation.metrics import (
    Prediction,
    exact_share,
    mean_json,
    operating_points,
    share_json,
)
from tabwise_training.evaluation.positions import KINDS, Position
from tabwise_training.evaluation.shown import measure_shown
from tabwise_training.evaluation.trained_lines import whole_line

COVERAGES = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)


def measure(
    positions: Sequence[Position],
    found: Sequence[Completion],
    trained: frozenset[str] | None = None,
) -> dict[str, Any]:
    """The table of completions at positions, precision against coverage, and what of
    them is shown."""
    predictions = [
        Prediction(text=c.text, truth=p.truth, confidence=c.confidence)
        for c, p in zip(found, positions, strict=True)
    ]
    table = tabulate(positions, predictions, trained)
    table["precision_by_coverage"] = [
        {
            "threshold": point.threshold,
            "coverage": point.shown.value,
            "precision": share_json(point.precise),
        }
        for point in operating_points(predictions, COVERAGES)
    ]
    table["shown"] = measure_shown(positions, found)
    return table


def tabulate(
    positions: Sequence[Position],
    predictions: Sequence[Prediction],
    trained: frozenset[str] | None = None,
) -> dict[str, Any]:
    """Figures over all positions, by kind of cursor, and of novel lines alone.

    trained: lines (stripped) that stand in the training split, None for not known.
    """
    pairs = list(zip(positions, predictions, strict=True))
    novel = [(at, p) for at, p in pairs if at.novel]
    groups = {"all": predictions, "novel": [p for _, p in novel]}
    if trained is not None:
        groups["untrained"] = [p for at, p in novel if whole_line(at) not in trained]
    for kind in KINDS:
        groups[kind] = [p for at, p in pairs if at.kind == kind]
    return {name: _figures(group) for name, group in groups.items() if group}


def tabulate_texts(
    positions: Sequence[Position],
    texts: Sequence[str],
    trained: frozenset[str] | None = None,
) -> dict[str, Any]:
    """As `tabulate`, of a baseline that has no confidence."""
    predictions = [
        Prediction(text=text, truth=position.truth)
        for position, text in zip(positions, texts, strict=True)
    ]
    return tabulate(positions, predictions, trained)


def _figures(group: Sequence[Prediction]) -> dict[str, Any]:
    similarity = mean_json([p.similarity for p in group])
    prefix = mean_json([p.correct_prefix for p in group])
    return {
        "exact_match": share_json(exact_share(group)),
        "edit_similarity": similarity["value"],
        "edit_similarity_interval": similarity,
        "correct_prefix": prefix["value"],
        "correct_prefix_interval": prefix,
    }

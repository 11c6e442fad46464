"""Pictures of an evaluation: precision against coverage, exact match by cursor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabwise_training.evaluation.report import GROUPS, LABELS, columns_of


def draw_pictures(folder: Path, figures: Mapping[str, Any]) -> list[Path]:
    """precision.png and exact-match.png in `folder`; returns them."""
    import matplotlib

    matplotlib.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    return [_draw_precision(folder, figures), _draw_exact(folder, figures)]


def _draw_precision(folder: Path, figures: Mapping[str, Any]) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name, label in (("with_suffix", "with suffix"), ("without_suffix", "without")):
        points = figures[name]["precision_by_coverage"]
        x = [100 * p["coverage"] for p in points]
        y = [100 * p["precision"]["value"] for p in points]
        low = [100 * p["precision"]["low"] for p in points]
        high = [100 * p["precision"]["high"] for p in points]
        axes.plot(x, y, marker="o", ms=3, label=label)
        axes.fill_between(x, low, high, alpha=0.2)
    axes.set(xlabel="shown, % of cursors", ylabel="of these right, %", ylim=(0, 100))
    axes.legend()
    return _save(figure, folder / "precision.png")


def _draw_exact(folder: Path, figures: Mapping[str, Any]) -> Path:
    from matplotlib import pyplot

    columns = columns_of(figures)
    groups = [g for g in GROUPS if g in figures["with_suffix"]]
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    width = 0.8 / len(columns)
    for number, (label, table) in enumerate(columns):
        shares = [table[group]["exact_match"] for group in groups]
        values = [100 * s["value"] for s in shares]
        below = [max(0.0, 100 * (s["value"] - s["low"])) for s in shares]
        above = [max(0.0, 100 * (s["high"] - s["value"])) for s in shares]
        x = [i + number * width for i in range(len(groups))]
        axes.bar(x, values, width, yerr=[below, above], label=label)
    middle = 0.4 - width / 2
    axes.set_xticks(
        [i + middle for i in range(len(groups))], [LABELS.get(g, g) for g in groups]
    )
    axes.set_ylabel("exact match, %")
    axes.legend()
    return _save(figure, folder / "exact-match.png")


def _save(figure: Any, file: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(file, dpi=120)
    pyplot.close(figure)
    return file

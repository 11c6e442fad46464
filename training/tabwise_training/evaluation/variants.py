"""A model's variants as a Markdown table and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabwise_training.evaluation.report import show


def variants_markdown(figures: Mapping[str, Any]) -> str:
    """The table of `tabwise variants`; size and perplexity beside the first row's."""
    rows = figures["variants"]
    first = rows[0]
    prompt, after = figures["prompt"], figures["decode_after"]
    heads = (
        *("variant", "MB", "smaller", "ms/token", f"prompt of {prompt}, ms"),
        *("bits per byte", "perplexity", "exact match", "novel lines"),
    )
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        table = row["with_suffix"]
        more = row["perplexity"]["value"] / first["perplexity"]["value"] - 1
        cells = (
            row["name"],
            f"{row['file_bytes'] / 1e6:.2f}",
            f"{first['file_bytes'] / row['file_bytes']:.2f}x",
            f"{row['ms_per_token']:.3f}",
            f"{row['prefill_ms']:.1f}",
            f"{row['bits_per_byte']['value']:.4f}",
            f"{more:+.2%}",
            show(table["all"]["exact_match"]),
            show(table.get("novel", table["all"])["exact_match"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    said = (
        f"{figures['machine']}, {figures['threads']} thread(s); a token after {after} "
        "others. Runners: "
        + ", ".join(f"{row['name']} {row['runner']}" for row in (rows[0], rows[1]))
        + ", the rest as the second."
    )
    return "\n".join([*lines, "", said]) + "\n"


def draw_variants(file: Path, figures: Mapping[str, Any]) -> Path:
    """Exact match by time of a token; a marker's area is the file's size."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.collections import PathCollection

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for number, row in enumerate(figures["variants"], start=1):
        exact = row["with_suffix"]["all"]["exact_match"]
        value, low, high = (100 * exact[key] for key in ("value", "low", "high"))
        x = row["ms_per_token"]
        axes.errorbar(x, value, [[value - low], [high - value]], color="0.7", lw=1)
        text = f"{number}  {row['name']}, {row['file_bytes'] / 1e6:.1f} MB"
        size = row["file_bytes"] / 3e4
        axes.scatter(x, value, s=size, alpha=0.6, zorder=2, label=text)
        axes.annotate(str(number), (x, value), ha="center", va="center", fontsize=8)
    legend = axes.legend(loc="upper center", fontsize=8, ncols=2)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([40])
    axes.margins(y=0.4)
    axes.set(xlabel="ms a token", ylabel="exact match, %", xscale="log")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
    return file

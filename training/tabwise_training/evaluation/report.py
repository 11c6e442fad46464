"""Evaluation figures as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabwise_training.evaluation.positions import KINDS

GROUPS = ("all", "novel", *KINDS)


def to_markdown(figures: Mapping[str, Any]) -> str:
    """The tables of one evaluation."""
    bpb = figures["bits_per_byte"]
    parts = [
        f"Bits per byte: **{bpb['value']:.3f}** over {bpb['bytes']:,} bytes.",
        _exact_table(figures),
        _precision_table(figures["with_suffix"]["precision_by_coverage"]),
    ]
    if "humaneval" in figures:
        found = figures["humaneval"]
        parts.append(
            "HumanEval-Infilling, single line: pass@1 "
            f"{show(found['pass@1'])}, exact match {show(found['exact_match'])}."
        )
    return "\n\n".join(parts) + "\n"


def show(share: Mapping[str, Any]) -> str:
    """A share in per cent with its 95 % interval and n."""
    return (
        f"{share['value']:.1%} ({share['low']:.1%}–{share['high']:.1%}, n={share['n']})"
    )


def _exact_table(figures: Mapping[str, Any]) -> str:
    lines = [
        "| rest of line | exact match, with suffix | without suffix | copy baseline "
        "| edit similarity | correct prefix |",
        "|---|---|---|---|---|---|",
    ]
    for group in GROUPS:
        if group not in figures["with_suffix"]:
            continue
        found = figures["with_suffix"][group]
        lines.append(
            f"| {group} | {show(found['exact_match'])} "
            f"| {figures['without_suffix'][group]['exact_match']['value']:.1%} "
            f"| {figures['copy_baseline'][group]['exact_match']['value']:.1%} "
            f"| {found['edit_similarity']:.1%} | {found['correct_prefix']:.1%} |"
        )
    return "\n".join(lines)


def _precision_table(points: list[Mapping[str, Any]]) -> str:
    lines = ["| shown | threshold | of these right |", "|---|---|---|"]
    for point in points:
        lines.append(
            f"| {point['coverage']:.0%} | {point['threshold']:.3f} "
            f"| {show(point['precision'])} |"
        )
    return "\n".join(lines)

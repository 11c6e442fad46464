"""Evaluation figures as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabwise_training.evaluation.positions import KINDS

GROUPS = ("all", "novel", "untrained", *KINDS)
LABELS = {"untrained": "novel, in no training file"}


def to_markdown(figures: Mapping[str, Any]) -> str:
    """The tables of one evaluation."""
    bpb = figures["bits_per_byte"]
    parts = [
        f"Bits per byte: **{bpb['value']:.3f}** over {bpb['bytes']:,} bytes.",
        _exact_table(figures),
        _precision_table(figures["with_suffix"]["precision_by_coverage"]),
        *_sentences(figures),
    ]
    if figures.get("others"):
        parts.append(_checkpoint_table(figures))
    return "\n\n".join(parts) + "\n"


def columns_of(figures: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(heading, table) of each way of completing that was measured."""
    columns = [
        ("with suffix", "with_suffix"),
        ("without suffix", "without_suffix"),
        ("n-gram baseline", "ngram_baseline"),
        ("copy baseline", "copy_baseline"),
    ]
    return [(label, figures[key]) for label, key in columns if key in figures]


def show(share: Mapping[str, Any]) -> str:
    """A share in per cent with its 95 % interval and n."""
    return (
        f"{share['value']:.1%} ({share['low']:.1%}–{share['high']:.1%}, n={share['n']})"
    )


def _brief(share: Mapping[str, Any]) -> str:
    """As `show`, where n stands in the same row."""
    return f"{share['value']:.1%} ({share['low']:.1%}–{share['high']:.1%})"


def _exact_table(figures: Mapping[str, Any]) -> str:
    first, *others = columns_of(figures)
    headings = [f"exact match, {first[0]}", *(label for label, _ in others)]
    headings += ["edit similarity", "correct prefix"]
    lines = [
        f"| rest of line | {' | '.join(headings)} |",
        "|---|" + "---|" * len(headings),
    ]
    for group in GROUPS:
        if group not in first[1]:
            continue
        found = first[1][group]
        cells = [show(found["exact_match"])]
        cells += [_brief(table[group]["exact_match"]) for _, table in others]
        cells.append(_brief(found["edit_similarity_interval"]))
        cells.append(_brief(found["correct_prefix_interval"]))
        lines.append(f"| {LABELS.get(group, group)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _precision_table(points: list[Mapping[str, Any]]) -> str:
    lines = ["| shown | threshold | of these right |", "|---|---|---|"]
    for point in points:
        lines.append(
            f"| {point['coverage']:.0%} | {point['threshold']:.3f} "
            f"| {show(point['precision'])} |"
        )
    return "\n".join(lines)


def _sentences(figures: Mapping[str, Any]) -> list[str]:
    shown = figures["with_suffix"]["shown"]
    found = [
        f"After the editor's own checks {show(shown['share'])} of completions are left "
        f"to show, of which {show(shown['precision'])} are right. Of raw completions "
        f"{show(shown['parses'])} leave the file parsing no worse."
    ]
    if "bodies" in figures:
        bodies = figures["bodies"]
        found.append(
            f"Block bodies: first line right {show(bodies['first_line'])}, whole body "
            f"{show(bodies['whole'])}, lines right before the first wrong one "
            f"{show(bodies['lines_right'])}."
        )
    if "keystrokes_saved" in figures:
        saved = figures["keystrokes_saved"]
        found.append(
            f"Keystrokes saved: {show(saved)} of {saved['characters']:,} characters; "
            "a right suggestion costs one key."
        )
    if "humaneval" in figures:
        tasks = figures["humaneval"]
        found.append(
            "HumanEval-Infilling, single line: pass@1 "
            f"{show(tasks['pass@1'])}, exact match {show(tasks['exact_match'])}."
        )
    return found


def _checkpoint_table(figures: Mapping[str, Any]) -> str:
    heads = "checkpoint", "bits", "bits per byte", "perplexity", "exact match"
    lines = [f"| {' | '.join(heads)} | novel lines |", "|---|---|---|---|---|---|"]
    for one in (figures, *figures["others"]):
        table = one["with_suffix"]
        novel = table.get("novel", table["all"])["exact_match"]
        lines.append(
            f"| {one['checkpoint']} | {one['bits']} "
            f"| {one['bits_per_byte']['value']:.3f} | {one['perplexity']['value']:.2f} "
            f"| {show(table['all']['exact_match'])} | {show(novel)} |"
        )
    return "\n".join(lines)

"""A checkpoint's CARD.md: data, recipe, hardware, figures, samples, limits."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabwise_model.checkpoint import WEIGHTS, Checkpoint, count_parameters
from tabwise_training.evaluation.report import to_markdown

SAMPLE_LINES = 4  # of what stands before the cursor


def write_card(
    folder: Path,
    checkpoint: Checkpoint,
    figures: Mapping[str, Any],
    *,
    manifest: Path,
    corpus_report: Path,
    logs: Sequence[Path] = (),
) -> None:
    """Write CARD.md into `folder`, from its provenance and one evaluation's figures.

    manifest: the corpus' packages with versions and licences. corpus_report: what
    `tabwise collect` kept of each. logs: `log.csv` of the runs that made it, in turn.
    """
    parts = [
        f"# Model card: `{folder.name}`",
        "Made by `tabwise collect`, `prepare`, `train` and `quantize`; this card is "
        "written by `tabwise evaluate --card`.",
        _model(folder, checkpoint),
        _recipe(checkpoint.provenance),
        _curve(logs),
        "## How good it is\n\n"
        "On packages that stand in no other split (the corpus' test split), never used "
        "for a choice. Decoded as the backend does it: the likeliest of four lines, "
        "copying from the file; no threshold unless stated.\n\n" + to_markdown(figures),
        _samples(figures["samples"]),
        _data(manifest, corpus_report),
        LIMITS,
    ]
    text = "\n\n".join(part.strip() for part in parts if part) + "\n"
    (folder / "CARD.md").write_text(text, encoding="utf-8")


LIMITS = """
## Limits

Python only. It has seen little code, by today's measure, and knows few APIs: it is best
at finishing what the file already suggests. It can be wrong in ways that look right; a
suggestion is a proposal. Memorised lines of its sources (all under permissive licences,
below) can come back. It was trained on no secrets that a detector found.
"""


def _model(folder: Path, checkpoint: Checkpoint) -> str:
    shape = checkpoint.config
    weights, size = count_parameters(shape), (folder / WEIGHTS).stat().st_size
    return (
        f"## The model\n\n{weights / 1e6:.2f}M parameters, family `{shape.family}`: "
        f"{shape.n_layer} layers, width {shape.n_embd}, {shape.n_head} heads over "
        f"{shape.n_kv_head} KV heads, MLP {shape.mlp_hidden}, context "
        f"{shape.block_size}, vocabulary {checkpoint.tokenizer.vocab_size}. "
        f"{checkpoint.bits}-bit matrices, {size / 1e6:.2f} MB, "
        f"SHA-256 `{checkpoint.digest}`."
    )


def _recipe(provenance: Mapping[str, Any]) -> str:
    recipe = provenance["recipe"]
    minutes = provenance["train_seconds"] / 60
    took = f"{minutes:.1f} minutes" if minutes < 60 else f"{minutes / 60:.1f} hours"
    settings = json.dumps({k: recipe[k] for k in ("data", "optim", "run")}, indent=1)
    return (
        f"## How it was trained\n\n{provenance['step']:,} steps, "
        f"{provenance['tokens'] / 1e6:.1f}M tokens, {took} of stepping on "
        f"`{provenance['device']}`"
        + (f" ({provenance['machine']})" if "machine" in provenance else "")
        + ".\n\n"
        + "".join(f"{note}\n\n" for note in provenance.get("notes", ()))
        + f"```json\n{settings}\n```"
    )


def _curve(logs: Sequence[Path]) -> str:
    """Bits per byte of the validation packages on the way, a row a measurement."""
    rows, before = [], 0.0
    for log in logs:
        with log.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream))
        rows += [
            f"| {(before + float(line['tokens'])) / 1e6:.2f} "
            f"| {float(line['loss']):.2f} | {float(line['val_bpb']):.3f} |"
            for line in lines
            if line["val_bpb"]
        ]
        before += float(lines[-1]["tokens"])
    if not rows:
        return ""
    head = "| million tokens | training loss, nats a token | validation, bits a byte |"
    return "\n".join([head, "|---|---|---|", *rows])


def _samples(samples: Sequence[Mapping[str, str]]) -> str:
    lines = ["## Samples", "The first of the evaluation, good and bad alike."]
    for sample in samples:
        before = "\n".join(sample["prefix"].split("\n")[-SAMPLE_LINES:])
        lines.append(
            f"```python\n{before}⟦{sample['text']}⟧\n```\n"
            f"{'right' if sample['text'].rstrip() == sample['truth'] else 'wrong'}"
            f" (wanted `{sample['truth']}`), confidence {sample['confidence']}"
        )
    return "\n\n".join(lines)


def _data(manifest: Path, corpus_report: Path) -> str:
    packages = tomllib.loads(manifest.read_text(encoding="utf-8"))["package"]
    kept = {
        p["package"]: p
        for p in json.loads(corpus_report.read_text(encoding="utf-8"))["packages"]
    }
    lines = [
        "## Data",
        "",
        "| package | version | licence | split | files | MB |",
        "|---|---|---|---|---|---|",
    ]
    entries = [{"name": "python", "version": "stdlib", "licence": "PSF-2.0"}, *packages]
    for entry in entries:
        found = kept.get(entry["name"])
        if found is None or not found["files"]:
            continue
        lines.append(
            f"| {entry['name']} | {entry['version']} | {entry['licence']} "
            f"| {found['split']} | {found['files']} | {found['bytes'] / 1e6:.2f} |"
        )
    return "\n".join(lines)

"""`tabwise evaluate`: how good a checkpoint is on held-out code.

Bits per byte; exact match, edit similarity and correct prefix of the rest of a line, by
kind of cursor, with and without what follows; precision against coverage; baselines;
HumanEval-Infilling. Prints Markdown; `--json` keeps all figures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabwise_model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from tabwise_model.runners.protocol import Runner
from tabwise_training.errors import TrainingError
from tabwise_training.evaluation.baselines import copy_similar_line
from tabwise_training.evaluation.card import write_card
from tabwise_training.evaluation.generate import Completion, complete_all
from tabwise_training.evaluation.humaneval import pass_at_1, read_tasks
from tabwise_training.evaluation.likelihood import bits_per_byte
from tabwise_training.evaluation.metrics import (
    Prediction,
    Share,
    exact_share,
    operating_points,
)
from tabwise_training.evaluation.positions import KINDS, Position, draw_positions
from tabwise_training.evaluation.report import to_markdown
from tabwise_training.quantize import find_checkpoint

ERRORS = (TrainingError, CheckpointError)
SAMPLES = 12
COVERAGES = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", nargs="?", default="default")
    parser.add_argument(
        "--documents", type=Path, default=Path("data/corpus/test.jsonl")
    )
    parser.add_argument("--positions", type=int, default=2_000)
    parser.add_argument("--likelihood-bytes", type=int, default=1_000_000)
    parser.add_argument("--humaneval", type=Path, help="an infilling tasks file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runner", default="auto", choices=["auto", "native", "torch"])
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--card", action="store_true", help="write CARD.md beside it")
    parser.add_argument(
        "--manifest", type=Path, default=Path("training/configs/corpus.toml")
    )


def run(arguments: argparse.Namespace) -> int:
    folder = find_checkpoint(arguments.checkpoint)
    checkpoint = load_checkpoint(folder)
    documents = read_documents(arguments.documents)
    runner = make_runner(checkpoint, arguments.runner, arguments.slots)
    began = time.monotonic()
    texts = [text for _, text in documents]
    bpb, counted = bits_per_byte(
        runner, checkpoint.tokenizer, texts, arguments.likelihood_bytes
    )
    positions = draw_positions(documents, arguments.positions, arguments.seed)
    holes = [(p.prefix, p.suffix) for p in positions]
    found = complete_all(runner, checkpoint, holes, label="with suffix")
    bare = [(p.prefix, "") for p in positions]
    alone = complete_all(runner, checkpoint, bare, label="without suffix")
    figures: dict[str, Any] = {
        "checkpoint": checkpoint.name,
        "sha256": checkpoint.digest,
        "bits": checkpoint.bits,
        "runner": type(runner).__name__,
        "bits_per_byte": {"value": bpb, "bytes": counted},
        "with_suffix": measure(positions, found),
        "without_suffix": measure(positions, alone),
        "copy_baseline": tabulate(positions, _copied(positions)),
        "samples": _samples(positions, found),
    }
    if arguments.humaneval:
        figures["humaneval"] = humaneval(runner, checkpoint, arguments.humaneval)
    figures["seconds"] = round(time.monotonic() - began)
    print(to_markdown(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if arguments.card:
        write_card(
            folder,
            checkpoint,
            figures,
            manifest=arguments.manifest,
            corpus_report=arguments.documents.parent / "report.json",
        )
    return 0


def read_documents(file: Path) -> list[tuple[str, str]]:
    """(path, text) of each line of a collected split. Raises TrainingError."""
    try:
        with file.open(encoding="utf-8") as stream:
            return [(d["path"], d["text"]) for d in map(json.loads, stream)]
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{file} holds no documents ({error}); run `tabwise collect` first"
        ) from error


def make_runner(checkpoint: Checkpoint, runner: str, slots: int) -> Runner:
    from tabwise_model.runners.choose import load_runner

    return load_runner(
        checkpoint,
        runner=runner,
        device="auto",
        threads=None,
        n_slots=slots,
        slot_tokens=checkpoint.config.block_size,
    )


def measure(
    positions: Sequence[Position], found: Sequence[Completion]
) -> dict[str, Any]:
    """The table of completions at positions, and precision against coverage."""
    predictions = [
        Prediction(text=c.text, truth=p.truth, confidence=c.confidence)
        for c, p in zip(found, positions, strict=True)
    ]
    table = tabulate(positions, predictions)
    table["precision_by_coverage"] = [
        {
            "threshold": point.threshold,
            "coverage": point.shown.value,
            "precision": share_json(point.precise),
        }
        for point in operating_points(predictions, COVERAGES)
    ]
    return table


def tabulate(
    positions: Sequence[Position], predictions: Sequence[Prediction]
) -> dict[str, Any]:
    """Figures over all positions, by kind of cursor, and of novel lines alone."""
    pairs = list(zip(positions, predictions, strict=True))
    groups = {"all": predictions, "novel": [p for at, p in pairs if at.novel]}
    for kind in KINDS:
        groups[kind] = [p for at, p in pairs if at.kind == kind]
    return {name: _figures(group) for name, group in groups.items() if group}


def humaneval(runner: Runner, checkpoint: Checkpoint, file: Path) -> dict[str, Any]:
    """pass@1 of greedy answers to single-line tasks."""
    tasks = read_tasks(file)
    holes = [(task.prefix, "\n" + task.suffix) for task in tasks]
    found = complete_all(runner, checkpoint, holes, label="HumanEval")
    share = pass_at_1(tasks, [c.text + "\n" for c in found])
    exact = sum(
        c.text.rstrip() == task.truth.rstrip()
        for c, task in zip(found, tasks, strict=True)
    )
    return {
        "pass@1": share_json(share),
        "exact_match": share_json(Share(exact, len(tasks))),
    }


def share_json(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {"value": share.value, "low": low, "high": high, "n": share.n}


def _figures(group: Sequence[Prediction]) -> dict[str, Any]:
    return {
        "exact_match": share_json(exact_share(group)),
        "edit_similarity": sum(p.similarity for p in group) / len(group),
        "correct_prefix": sum(p.correct_prefix for p in group) / len(group),
    }


def _copied(positions: Sequence[Position]) -> list[Prediction]:
    return [Prediction(text=copy_similar_line(p), truth=p.truth) for p in positions]


def _samples(
    positions: Sequence[Position], found: Sequence[Completion]
) -> list[dict[str, str]]:
    return [
        {
            "prefix": position.prefix,
            "text": completion.text,
            "truth": position.truth,
            "confidence": f"{completion.confidence:.2f}",
        }
        for position, completion in list(zip(positions, found, strict=True))[:SAMPLES]
    ]

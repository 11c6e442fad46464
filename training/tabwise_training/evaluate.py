"""`tabwise evaluate`: how good checkpoints are on held-out code.

Bits per byte; exact match, edit similarity and correct prefix of the rest of a line, by
kind of cursor, with and without what follows; precision against coverage, what is shown
and what parses; block bodies, keystrokes saved; baselines; HumanEval-Infilling. Prints
Markdown; `--json` keeps all figures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tabwise_model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from tabwise_model.request import Stop
from tabwise_model.runners.protocol import Runner
from tabwise_training.destination import make_room_for
from tabwise_training.errors import TrainingError
from tabwise_training.evaluation.baselines import copy_similar_line
from tabwise_training.evaluation.bodies import draw_bodies, measure_bodies
from tabwise_training.evaluation.card import write_card
from tabwise_training.evaluation.decoding import decoding_markdown, measure_decoding
from tabwise_training.evaluation.filters import study_filters
from tabwise_training.evaluation.generate import (
    Completer,
    Completion,
    complete_all,
)
from tabwise_training.evaluation.humaneval import pass_at_1, read_tasks
from tabwise_training.evaluation.keystrokes import keystrokes_saved, type_line
from tabwise_training.evaluation.levels import (
    TYPED,
    levels_markdown,
    measure_levels,
    measure_thresholds,
    thresholds_markdown,
)
from tabwise_training.evaluation.likelihood import likelihood
from tabwise_training.evaluation.metrics import Share, share_json
from tabwise_training.evaluation.ngram import complete_all_by_counts, load_ngram
from tabwise_training.evaluation.open_files import study_open_files
from tabwise_training.evaluation.pictures import draw_pictures
from tabwise_training.evaluation.positions import Position, draw_positions
from tabwise_training.evaluation.report import to_markdown
from tabwise_training.evaluation.shown import shown_text
from tabwise_training.evaluation.tables import measure, tabulate_texts
from tabwise_training.evaluation.trained_lines import lines_in, whole_line
from tabwise_training.evaluation.windows import hole_of
from tabwise_training.evaluation.workspaces import study_workspaces
from tabwise_training.quantize import find_checkpoint

ERRORS = (TrainingError, CheckpointError)
# name: (what measures it, what prints it)
STUDIES: Mapping[str, tuple[Callable[..., Any], Callable[..., str]]] = MappingProxyType(
    {
        "decoding": (measure_decoding, decoding_markdown),
        "levels": (measure_levels, levels_markdown),
        "thresholds": (measure_thresholds, thresholds_markdown),
    }
)
LEAST: Mapping[str, int] = MappingProxyType(
    {
        "positions": 1,
        "likelihood_bytes": 1,
        "slots": 1,
        "bodies": 0,
        "keystroke_lines": 0,
    }
)
SAMPLES = 12
BODY_TOKENS = 96

Documents = Sequence[tuple[str, str]]


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "checkpoint",
        nargs="*",
        default=["default"],
        help="the first is measured in full, others are rows beside it",
    )
    add("--documents", type=Path, default=Path("data/corpus/test.jsonl"))
    add("--positions", type=int, default=2_000)
    add("--likelihood-bytes", type=int, default=1_000_000)
    add("--humaneval", type=Path, help="an infilling tasks file")
    add("--seed", type=int, default=0)
    add("--runner", default="auto", choices=["auto", "native", "torch"])
    add("--slots", type=int, default=16)
    add("--json", type=Path, help="write all figures here")
    add("--card", action="store_true", help="write CARD.md beside it")
    add("--log", type=Path, action="append", default=[], help="a run's, for the card")
    add("--manifest", type=Path, default=Path("training/configs/corpus.toml"))
    add("--bodies", type=int, default=0, help="block bodies to complete")
    add("--keystroke-lines", type=int, default=0, help="lines to type key by key")
    add("--ngram", type=Path, help="a prepared corpus to count for the baseline")
    add("--train-lines", type=Path, help="a training split; its lines are not novel")
    add("--pictures", type=Path, help="a folder for the curves")
    for flag, study_it, about in (
        ("--filters", study_filters, "each step before the screen helps"),
        ("--open-files", study_open_files, "other open files help"),
        ("--workspaces", study_workspaces, "remembering the rest of a package helps"),
    ):
        add(
            flag,
            dest="study_files",
            action="store_const",
            const=study_it,
            help=f"only whether {about}",
        )
    add("--study", choices=STUDIES, help="only this: what a choice of ours rests on")


def run(arguments: argparse.Namespace) -> int:
    check_counts(arguments, LEAST)
    if arguments.json:
        make_room_for(arguments.json)
    if arguments.pictures:
        make_room_for(arguments.pictures / "one.png")
    folder, *others = map(find_checkpoint, arguments.checkpoint)
    checkpoint = load_checkpoint(folder)
    documents = read_documents(arguments.documents)
    if arguments.study_files:
        runner = make_runner(checkpoint, arguments.runner, arguments.slots)
        count = arguments.positions
        print(arguments.study_files(runner, checkpoint, documents, count))
        return 0
    positions = draw_positions(documents, arguments.positions, arguments.seed)
    if arguments.study:
        return study(checkpoint, positions, arguments)
    trained = None
    if arguments.train_lines:
        trained = lines_in(arguments.train_lines, map(whole_line, positions))
    began = time.monotonic()
    figures = evaluate(checkpoint, documents, positions, trained, arguments)
    figures["others"] = [
        brief(load_checkpoint(other), documents, positions, trained, arguments)
        for other in others
    ]
    figures["seconds"] = round(time.monotonic() - began)
    print(to_markdown(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if arguments.pictures:
        draw_pictures(arguments.pictures, figures)
    if arguments.card:
        write_card(
            folder,
            checkpoint,
            figures,
            manifest=arguments.manifest,
            corpus_report=arguments.documents.parent / "report.json",
            logs=arguments.log,
        )
    return 0


def check_counts(arguments: argparse.Namespace, least: Mapping[str, int]) -> None:
    """Raise TrainingError for an option below its least."""
    for name, lowest in least.items():
        count = getattr(arguments, name)
        if count < lowest:
            flag = name.replace("_", "-")
            raise TrainingError(f"--{flag} must be at least {lowest}, got {count}")


def study(
    checkpoint: Checkpoint, positions: Sequence[Position], arguments: argparse.Namespace
) -> int:
    """One study over the positions."""
    measure_it, to_text = STUDIES[arguments.study]
    runner = make_runner(checkpoint, arguments.runner, arguments.slots)
    figures = measure_it(runner, checkpoint, positions)
    print(to_text(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def evaluate(
    checkpoint: Checkpoint,
    documents: Documents,
    positions: Sequence[Position],
    trained: frozenset[str] | None,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """All figures of one checkpoint that the arguments ask for."""
    tokenizer = checkpoint.tokenizer
    ngram = load_ngram(arguments.ngram, tokenizer) if arguments.ngram else None
    runner = make_runner(checkpoint, arguments.runner, arguments.slots)
    figures, found = _likely_and_exact(
        runner, checkpoint, documents, positions, trained, arguments
    )
    bare = [(hole_of(p)[0], "") for p in positions]
    alone = complete_all(runner, checkpoint, bare, label="without suffix")
    figures["without_suffix"] = measure(positions, alone, trained)
    copied = [copy_similar_line(p) for p in positions]
    figures["copy_baseline"] = tabulate_texts(positions, copied, trained)
    if ngram is not None:
        counted = complete_all_by_counts(ngram, tokenizer, positions)
        figures["ngram_baseline"] = tabulate_texts(positions, counted, trained)
    figures["samples"] = _samples(positions, found)
    if arguments.bodies:
        figures["bodies"] = complete_bodies(runner, checkpoint, documents, arguments)
    if arguments.keystroke_lines:
        figures["keystrokes_saved"] = type_lines(
            runner, checkpoint, documents, arguments
        )
    if arguments.humaneval:
        figures["humaneval"] = humaneval(runner, checkpoint, arguments.humaneval)
    return figures


def brief(
    checkpoint: Checkpoint,
    documents: Documents,
    positions: Sequence[Position],
    trained: frozenset[str] | None,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """The figures that a further checkpoint's row needs."""
    runner = make_runner(checkpoint, arguments.runner, arguments.slots)
    return _likely_and_exact(
        runner, checkpoint, documents, positions, trained, arguments
    )[0]


def _likely_and_exact(
    runner: Runner,
    checkpoint: Checkpoint,
    documents: Documents,
    positions: Sequence[Position],
    trained: frozenset[str] | None,
    arguments: argparse.Namespace,
) -> tuple[dict[str, Any], list[Completion]]:
    """Bits per byte and completions with what follows; and those completions."""
    texts = [text for _, text in documents]
    likely = likelihood(runner, checkpoint.tokenizer, texts, arguments.likelihood_bytes)
    holes = [hole_of(p) for p in positions]
    found = complete_all(runner, checkpoint, holes, label="with suffix")
    figures = {
        "checkpoint": checkpoint.name,
        "sha256": checkpoint.digest,
        "bits": checkpoint.bits,
        "runner": type(runner).__name__,
        "bits_per_byte": {"value": likely.bits_per_byte, "bytes": likely.bytes},
        "perplexity": {"value": likely.perplexity, "tokens": likely.tokens},
        "with_suffix": measure(positions, found, trained),
    }
    return figures, found


def read_documents(file: Path) -> list[tuple[str, str]]:
    """(path, text) of each line of a collected split. Raises TrainingError."""
    try:
        with file.open(encoding="utf-8") as stream:
            found = [_named_text(json.loads(line)) for line in stream]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{file} holds no documents ({error}); run `tabwise collect` first"
        ) from error
    if not found:  # as collect leaves it without --test
        raise TrainingError(
            f"{file} is empty; name another split with --documents, or run "
            "`tabwise collect` with a --test"
        )
    return found


def _named_text(document: Any) -> tuple[str, str]:
    path, text = document["path"], document["text"]
    if not (isinstance(path, str) and isinstance(text, str)):
        raise TypeError("path and text must be strings")
    return path, text


def make_runner(
    checkpoint: Checkpoint, runner: str, slots: int, threads: int | None = None
) -> Runner:
    """By `auto` full precision runs in torch: the native runner would quantise it."""
    from tabwise_model.runners.choose import load_runner

    return load_runner(
        checkpoint,
        runner="torch" if runner == "auto" and checkpoint.bits == 32 else runner,
        device="auto",
        threads=threads,
        n_slots=slots,
        slot_tokens=checkpoint.config.block_size,
    )


def complete_bodies(
    runner: Runner,
    checkpoint: Checkpoint,
    documents: Documents,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Block bodies, with what follows them."""
    bodies = draw_bodies(documents, arguments.bodies, arguments.seed)
    if not bodies:
        raise TrainingError("no block bodies in the documents; give --bodies 0")
    completer = Completer(
        runner, checkpoint, max_new_tokens=BODY_TOKENS, stop=Stop.BLOCK
    )
    found = completer.complete(
        [(body.prefix, body.suffix) for body in bodies],
        indents=[body.indent for body in bodies],
        label="bodies",
    )
    return measure_bodies(bodies, [completion.text for completion in found])


def type_lines(
    runner: Runner,
    checkpoint: Checkpoint,
    documents: Documents,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Keystrokes saved over lines typed from their indentation on."""
    drawn = draw_positions(documents, 4 * arguments.keystroke_lines, arguments.seed)
    lines = [position for position in drawn if position.kind == TYPED]
    completer = Completer(runner, checkpoint)

    def suggest(here: Position) -> str | None:
        (found,) = completer.complete([(here.prefix, here.suffix)])
        return shown_text(here, found)

    typed = [type_line(line, suggest) for line in lines]
    return keystrokes_saved(typed, arguments.seed)


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

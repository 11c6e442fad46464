"""`tabwise tune`: the shipped checkpoint learns a user's repository, on a CPU.

Trains for at most `--minutes`, or not at all with `--steps 0`, which only remembers;
tells exact match on held-out files before and after, and writes an INT8 checkpoint for
`tabwise serve --checkpoint`, only if it helps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import torch

from tabwise_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from tabwise_model.copying import Remembered
from tabwise_model.gpt import GPT
from tabwise_model.quantize import dequantize_checkpoint, quantize_checkpoint
from tabwise_model.repository import MOST_REMEMBERED_TOKENS
from tabwise_model.tokenizer import Tokenizer
from tabwise_training.calibration import check_vocabulary
from tabwise_training.data import DataConfig, Rows
from tabwise_training.destination import (
    check_apart,
    check_folder,
    is_checkpoint,
    writing,
)
from tabwise_training.errors import TrainingError
from tabwise_training.evaluation.positions import draw_positions
from tabwise_training.quantize import find_checkpoint
from tabwise_training.tuning.general import general_code
from tabwise_training.tuning.judge import Exam, Standing, helps, to_markdown
from tabwise_training.tuning.repository import (
    Parts,
    Text,
    added_times,
    read_repository,
    split_repository,
)
from tabwise_training.tuning.rows import (
    SHARD_TOKENS,
    endless_rows,
    plain_rows,
    write_documents,
)
from tabwise_training.tuning.tuner import (
    Judge,
    Judges,
    TuneOptions,
    Tuner,
    rows_bits_per_byte,
)

ERRORS = (TrainingError, CheckpointError)
MOST_MINUTES = 15.0
JUDGED_ROWS = 32  # of one's own files, a few seconds
GENERAL_ROWS = 128  # seen less often; of 32 rows too little was lost to go by


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", type=Path, help="a repository, or any folder of Python files")
    add("--checkpoint", default="default", help="where to start from")
    add("--out", type=Path, default=Path("tuned"), help="folder of the new checkpoint")
    add("--minutes", type=float, default=MOST_MINUTES, help="of training, at most 15")
    add("--steps", type=int, help="stop sooner; 0 trains nothing and only remembers")
    add(
        "--replay",
        type=Path,
        help="a prepared corpus to replay instead of what is installed",
    )
    add("--replay-share", type=float, default=TuneOptions().replay_share)
    add("--lr", type=float, default=TuneOptions().lr, help="the peak learning rate")
    add(
        "--forgetful",
        action="store_true",
        help="learn, but do not store the code itself to copy from",
    )
    add("--positions", type=int, default=600, help="held-out cursors to measure at")
    add(
        "--general-bytes",
        type=int,
        default=120_000,
        help="of other code to measure forgetting on",
    )
    add("--threads", type=int, help="CPU threads; all by default")
    add("--seed", type=int, default=1)
    add(
        "--force",
        action="store_true",
        help="write it even if it does not help, and in place of any model",
    )


def run(arguments: argparse.Namespace) -> int:
    options = _options(arguments)
    source = find_checkpoint(arguments.checkpoint)
    _check_out(arguments, source)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    first = load_checkpoint(source)
    files = read_repository(arguments.path)
    own = split_repository(files, added_times(arguments.path))
    general = general_code(files)
    _say_split(own)
    exam = _exam(own, general, arguments)
    before = exam.sit(_served(first), "before")
    tuned, record = tune(
        first, own, general, options, arguments.replay, not arguments.forgetful
    )
    if tuned.remembered is not None:
        print(f"{tuned.remembered.tokens:,} tokens of it are remembered")
    after = exam.sit(tuned, "after")
    print(to_markdown(before, after))
    if not helps(before, after, options.max_loss) and not arguments.force:
        print("it does not help here, so nothing is written (--force writes it anyway)")
        return 0
    if tuned.remembered is not None:  # measured without what was held out
        tuned = _remembering(tuned, own.held_out, own.train, own.choose)
    _write(arguments.out, tuned, first, record, before, after)
    print(f"written; start it with: tabwise serve --checkpoint {arguments.out}")
    return 0


def tune(
    first: Checkpoint,
    own: Parts,
    general: Parts,
    options: TuneOptions,
    replay: Path | None = None,
    remember: bool = True,
) -> tuple[Checkpoint, dict[str, Any]]:
    """(the tuned INT8 checkpoint, a record of the run)."""
    record: dict[str, Any] = {"options": attrs.asdict(options), "steps": 0, "tokens": 0}
    tuned = _served(first)
    if options.max_steps != 0:
        tuned, trained = _train(first, own, general, options, replay)
        record |= trained
    if remember:
        tuned = _remembering(tuned, own.train, own.choose)
    return tuned, record


def _train(
    first: Checkpoint,
    own: Parts,
    general: Parts,
    options: TuneOptions,
    replay: Path | None,
) -> tuple[Checkpoint, dict[str, Any]]:
    torch.manual_seed(options.seed)
    tokenizer = first.tokenizer
    plain = dequantize_checkpoint(first)
    model = GPT(first.config)
    model.load_tensors(plain.tensors)
    judges = Judges(
        _judge(model, tokenizer, own.choose, JUDGED_ROWS, "files to choose by"),
        _judge(model, tokenizer, general.choose, GENERAL_ROWS, "general code"),
    )
    with TemporaryDirectory(prefix="tabwise-tune-") as scratch:
        streams = _streams(Path(scratch), first, own, general, options, replay)
        tuner = Tuner(model, tokenizer, *streams, options)
        judged = tuner.train(judges)
    print(f"{tuner.steps} steps, {tuner.tokens:,} tokens")
    record = {
        "steps": tuner.steps,
        "tokens": tuner.tokens,
        "judged": [attrs.astuple(one) for one in judged],
    }
    tuned = attrs.evolve(plain, tensors=model.to_tensors(), remembered=None)
    return quantize_checkpoint(tuned), record


def _judge(
    model: GPT, tokenizer: Tokenizer, texts: Sequence[Text], most: int, label: str
) -> Judge:
    rows = plain_rows(tokenizer, texts, model.config.block_size, most)

    def judge() -> float:
        found = rows_bits_per_byte(model, tokenizer, rows)
        print(f"{label}: {found:.3f} bits per byte", flush=True)
        return found

    return judge


def _remembering(checkpoint: Checkpoint, *parts: Sequence[Text]) -> Checkpoint:
    """It, with as much of these files as is bearable, the first ones first."""
    texts, left = [], MOST_REMEMBERED_TOKENS
    for _, text in chain(*parts):
        ids = checkpoint.tokenizer.encode_by_paragraphs(text)[:left]
        texts.append(ids)
        left -= len(ids)
    return attrs.evolve(checkpoint, remembered=Remembered.of(texts))


def _streams(
    scratch: Path,
    first: Checkpoint,
    own: Parts,
    general: Parts,
    options: TuneOptions,
    replay: Path | None,
) -> tuple[Iterator[Rows], Iterator[Rows]]:
    """Endless rows of the user's code, and of what is replayed."""
    tokenizer = first.tokenizer
    config = DataConfig(seed=options.seed, spm_rate=0.7, shard_tokens=SHARD_TOKENS)
    write_documents(scratch / "own", tokenizer, own.train)
    if replay is None:
        replay = scratch / "general"
        write_documents(replay, tokenizer, general.train)
    else:
        check_vocabulary(replay, tokenizer)
    block = first.config.block_size
    return (
        endless_rows(scratch / "own", tokenizer, config, block),
        endless_rows(replay, tokenizer, config, block),
    )


def _options(arguments: argparse.Namespace) -> TuneOptions:
    if not 0 < arguments.minutes <= MOST_MINUTES:
        raise TrainingError(
            f"--minutes must be above 0, at most {MOST_MINUTES:.0f}, "
            f"got {arguments.minutes}"
        )
    if arguments.steps is not None and arguments.steps < 0:
        raise TrainingError(f"--steps must be at least 0, got {arguments.steps}")
    if arguments.steps == 0 and arguments.forgetful:
        raise TrainingError("with --steps 0 and --forgetful nothing would be tuned")
    if not 0 <= arguments.replay_share < 1:
        raise TrainingError(
            f"--replay-share must be 0 or more, under 1, got {arguments.replay_share}"
        )
    if arguments.positions < 1:
        raise TrainingError(
            f"--positions must be at least 1, got {arguments.positions}"
        )
    usual = TuneOptions()
    return attrs.evolve(
        usual,
        max_seconds=60 * arguments.minutes,
        max_steps=arguments.steps,
        replay_share=arguments.replay_share,
        lr=arguments.lr,
        seed=arguments.seed,
    )


def _check_out(arguments: argparse.Namespace, source: Path) -> None:
    """Raise DestinationError, before any work, if --out must not be written."""
    out = arguments.out
    check_apart(out, arguments.path)
    force = arguments.force or is_checkpoint(out)
    check_folder(out, force=force, source=source)


def _exam(own: Parts, general: Parts, arguments: argparse.Namespace) -> Exam:
    return Exam(
        positions=draw_positions(own.held_out, arguments.positions, arguments.seed),
        known=frozenset(
            line.strip()
            for _, text in (*own.train, *own.choose)
            for line in text.split("\n")
        ),
        own=own.held_out,
        general=general.held_out,
        general_bytes=arguments.general_bytes,
        threads=arguments.threads,
    )


def _served(checkpoint: Checkpoint) -> Checkpoint:
    """As it would be served: INT8, as the tuned one will be, but remembering nothing.

    What an earlier tuning stored holds the files that are measured by.
    """
    small = quantize_checkpoint(checkpoint) if checkpoint.bits == 32 else checkpoint
    return attrs.evolve(small, remembered=None)


def _say_split(own: Parts) -> None:
    for label, part in (
        ("to tune on", own.train),
        ("to choose by", own.choose),
        ("held out", own.held_out),
    ):
        size = sum(len(text) for _, text in part)
        print(f"{label:13} {len(part):5,} files {size:10,} characters")


def _write(
    out: Path,
    tuned: Checkpoint,
    first: Checkpoint,
    record: dict[str, Any],
    before: Standing,
    after: Standing,
) -> None:
    provenance = {
        **first.provenance,
        "tuned": {
            "from": first.digest,
            **record,
            "before": before.to_json(),
            "after": after.to_json(),
        },
    }
    with writing(out):
        save_checkpoint(out, attrs.evolve(tuned, provenance=provenance))

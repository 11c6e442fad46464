"""`tabwise variants`: one model in all its forms, and others beside it, in one table.

Size of the weights' file, time of a decode step and of a prompt, bits per byte and
exact match. All are timed turn by turn, so that a machine that slows down slows all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np

from tabwise_model.checkpoint import (
    WEIGHTS,
    Checkpoint,
    CheckpointError,
    count_parameters,
    load_checkpoint,
    save_checkpoint,
)
from tabwise_model.int4 import Int4Layout
from tabwise_model.quantize import (
    check_finite,
    dequantize_checkpoint,
    quantize_checkpoint,
)
from tabwise_model.runners.native_bench import processor
from tabwise_model.runners.protocol import Chunk, Runner
from tabwise_training.destination import make_room_for
from tabwise_training.errors import TrainingError
from tabwise_training.evaluate import brief, check_counts, make_runner, read_documents
from tabwise_training.evaluation.positions import draw_positions
from tabwise_training.evaluation.variants import draw_variants, variants_markdown
from tabwise_training.quantize import ROWS, find_checkpoint, to_int4

ERRORS = (TrainingError, CheckpointError)
DECODE_AFTER = 256  # tokens
PROMPT = 256
LEAST: Mapping[str, int] = MappingProxyType(
    {"positions": 1, "likelihood_bytes": 1, "turns": 1, "threads": 1}
)
WARM_UP = 3  # turns that do not count
# Name, layout and method of what the first checkpoint becomes.
INT4_FORMS = (
    ("INT4", Int4Layout(group=32, embed_bits=8), "gptq"),
    ("INT4, to nearest", Int4Layout(group=32, embed_bits=8), "rtn"),
    ("INT4, all", Int4Layout(group=32, embed_bits=4), "gptq"),
    ("INT4, all, group 64", Int4Layout(group=64, embed_bits=4), "gptq"),
)


@attrs.frozen(kw_only=True)
class Variant:
    """bytes: of its weights' file."""

    name: str
    checkpoint: Checkpoint
    bytes: int


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "checkpoint",
        nargs="*",
        default=["default"],
        help="the first is measured in every form, others as INT8",
    )
    add("--documents", type=Path, default=Path("data/corpus/test.jsonl"))
    add("--positions", type=int, default=1_000)
    add("--likelihood-bytes", type=int, default=500_000)
    add("--calibration", type=Path, metavar="PREPARED", help="as of tabwise quantize")
    add("--turns", type=int, default=300, help="times that each is timed")
    add("--threads", type=int, default=1, help="of the timed steps")
    add("--seed", type=int, default=0)
    add("--json", type=Path, help="write all figures here")
    add("--picture", type=Path, help="draw exact match by time here (PNG)")
    parser.set_defaults(runner="auto", slots=16)


def run(arguments: argparse.Namespace) -> int:
    check_counts(arguments, LEAST)
    for file in (arguments.json, arguments.picture):
        if file is not None:
            make_room_for(file)
    first, *others = (load_checkpoint(find_checkpoint(n)) for n in arguments.checkpoint)
    documents = read_documents(arguments.documents)
    positions = draw_positions(documents, arguments.positions, arguments.seed)
    variants = [*forms_of(first, arguments.calibration), *map(as_int8, others)]
    timings = time_in_turns(variants, arguments.threads, arguments.turns)
    rows = [
        figures_of(variant, timing)
        | brief(variant.checkpoint, documents, positions, None, arguments)
        for variant, timing in zip(variants, timings, strict=True)
    ]
    figures = {
        "machine": processor(),
        "threads": arguments.threads,
        "decode_after": DECODE_AFTER,
        "prompt": PROMPT,
        "variants": rows,
    }
    print(variants_markdown(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if arguments.picture:
        draw_variants(arguments.picture, figures)
    return 0


def forms_of(checkpoint: Checkpoint, calibration: Path | None) -> Iterator[Variant]:
    """The checkpoint in float32, INT8, and each of INT4_FORMS that its shape allows."""
    plain = dequantize_checkpoint(checkpoint)
    check_finite(plain)
    yield _variant("float32", plain)
    yield _variant("INT8", quantize_checkpoint(plain))
    for name, layout, method in INT4_FORMS:
        try:
            small = to_int4(plain, layout, method, calibration, ROWS)
        except CheckpointError as error:
            print(f"no {name}: {error}", flush=True)
        else:
            yield _variant(name, small)


def as_int8(checkpoint: Checkpoint) -> Variant:
    """Another model under its own name, in INT8 unless it is quantised already."""
    if checkpoint.bits == 32:
        return _variant(f"{checkpoint.name}, INT8", quantize_checkpoint(checkpoint))
    return _variant(f"{checkpoint.name}, INT{checkpoint.bits}", checkpoint)


def time_in_turns(
    variants: Sequence[Variant], threads: int, turns: int
) -> list[dict[str, float]]:
    """Median ms of a decode step and of a prompt, of each variant."""
    runners = [_timed_runner(variant.checkpoint, threads) for variant in variants]
    prompt = tuple(int(i) for i in np.random.default_rng(0).integers(0, 256, PROMPT))
    cases = {
        "ms_per_token": Chunk(0, DECODE_AFTER - 1, (7,)),
        "prefill_ms": Chunk(0, 0, prompt),
    }
    found: list[dict[str, float]] = [{} for _ in variants]
    for runner in runners:
        runner.extend([Chunk(0, 0, prompt[:DECODE_AFTER])])
    for name, chunk in cases.items():
        calls = [partial(runner.extend, [chunk]) for runner in runners]
        for variant, seconds in zip(found, _medians(calls, turns), strict=True):
            variant[name] = 1e3 * seconds
    return found


def figures_of(variant: Variant, timing: Mapping[str, float]) -> dict[str, Any]:
    return {
        "name": variant.name,
        "parameters": count_parameters(variant.checkpoint.config),
        "file_bytes": variant.bytes,
        **timing,
    }


def _medians(calls: Sequence[Any], turns: int) -> list[float]:
    """Seconds of each call, all taking turns."""
    taken: list[list[float]] = [[] for _ in calls]
    for turn in range(WARM_UP + turns):
        for call, times in zip(calls, taken, strict=True):
            began = time.perf_counter()
            call()
            if turn >= WARM_UP:
                times.append(time.perf_counter() - began)
    return [float(np.median(times)) for times in taken]


def _timed_runner(checkpoint: Checkpoint, threads: int) -> Runner:
    if checkpoint.config.block_size < max(DECODE_AFTER, PROMPT):
        raise TrainingError(
            f"{checkpoint.name} has a context of {checkpoint.config.block_size}; "
            f"{max(DECODE_AFTER, PROMPT)} are needed to time it"
        )
    return make_runner(checkpoint, "auto", 1, threads)


def _variant(name: str, checkpoint: Checkpoint) -> Variant:
    with tempfile.TemporaryDirectory(prefix="tabwise-variants-") as scratch:
        save_checkpoint(Path(scratch) / "x", checkpoint)
        size = (Path(scratch) / "x" / WEIGHTS).stat().st_size
    return Variant(name=name, checkpoint=checkpoint, bytes=size)

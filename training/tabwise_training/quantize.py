"""`tabwise quantize`: a float32 checkpoint becomes INT8, a quarter of its size."""

from __future__ import annotations

import argparse
from pathlib import Path

import attrs

from tabwise_model.checkpoint import (
    WEIGHTS,
    CheckpointError,
    load_checkpoint,
    resolve_checkpoint,
    save_checkpoint,
)
from tabwise_model.quantize import quantize_checkpoint
from tabwise_training.errors import TrainingError
from tabwise_training.run_state import steps_on_disk

ERRORS = (TrainingError, CheckpointError)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a checkpoint's folder, or a run's")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--note", action="append", default=[], help="a line for the model's card"
    )


def run(arguments: argparse.Namespace) -> int:
    source = find_checkpoint(arguments.checkpoint)
    small = quantize_checkpoint(load_checkpoint(source))
    provenance = {**small.provenance, "notes": arguments.note}
    save_checkpoint(arguments.out, attrs.evolve(small, provenance=provenance))
    before = (source / WEIGHTS).stat().st_size
    after = (arguments.out / WEIGHTS).stat().st_size
    print(f"original   {before / 1e6:9.2f} MB  {source}")
    print(f"quantised  {after / 1e6:9.2f} MB  {arguments.out}")
    print(f"ratio      {before / after:9.2f} x")
    return 0


def find_checkpoint(name: str) -> Path:
    """The folder that `name` means: a checkpoint, or the newest of a training run.

    Raises CheckpointError if it is neither.
    """
    steps = steps_on_disk(Path(name))
    return steps[-1] if steps else resolve_checkpoint(name)

"""`tabwise quantize`: a checkpoint becomes INT8, or INT4, and as much smaller."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import attrs

from tabwise_model.checkpoint import (
    WEIGHTS,
    Checkpoint,
    CheckpointError,
    count_parameters,
    expected_tensors,
    load_checkpoint,
    quantized_names,
    resolve_checkpoint,
    save_checkpoint,
)
from tabwise_model.int4 import GROUPS, Int4Layout, Int4Matrix, round_matrix
from tabwise_model.quantize import (
    check_finite,
    dequantize_checkpoint,
    quantize_checkpoint,
    with_int4,
)
from tabwise_training.calibration import calibration_rows
from tabwise_training.destination import (
    add_force,
    check_folder,
    is_checkpoint,
    writing,
)
from tabwise_training.errors import TrainingError
from tabwise_training.run_state import steps_on_disk

ERRORS = (TrainingError, CheckpointError)
ROWS = 32  # calibration rows, each as long as the context; 128 did no better
OF_INT4 = ("group", "embeddings", "method", "calibration", "rows")


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint", help="a checkpoint's folder or name, or a run's")
    add("--out", type=Path, required=True, help="folder to write")
    add("--bits", type=int, choices=(8, 4), default=8, help="of the matrices")
    add("--note", action="append", default=[], help="a line for the model's card")
    add_force(parser)
    four = parser.add_argument_group("with --bits 4")
    four.add_argument(
        "--group", type=int, choices=GROUPS, help="weights that share a step (32)"
    )
    four.add_argument(
        "--embeddings", type=int, choices=(8, 4), help="bits of the embedding (8)"
    )
    four.add_argument(
        "--method",
        choices=("gptq", "rtn"),
        help="gptq (default): calibrated on code; rtn: each weight to the nearest",
    )
    four.add_argument(
        "--calibration",
        type=Path,
        metavar="PREPARED",
        help="a prepared corpus to calibrate on instead of the standard library",
    )
    four.add_argument("--rows", type=int, help=f"of it, for gptq ({ROWS})")


def run(arguments: argparse.Namespace) -> int:
    source, out = find_checkpoint(arguments.checkpoint), arguments.out
    # the step before a release: one checkpoint takes another's place
    force = arguments.force or is_checkpoint(out)
    check_folder(out, force=force, source=source)
    checkpoint = load_checkpoint(source)
    make = _asked_int4 if arguments.bits == 4 else _asked_int8
    small = make(checkpoint, arguments)
    provenance = {**small.provenance, "notes": arguments.note}
    with writing(out):
        save_checkpoint(out, attrs.evolve(small, provenance=provenance))
    _say_sizes(checkpoint, source / WEIGHTS, out / WEIGHTS)
    return 0


def find_checkpoint(name: str) -> Path:
    """The folder that `name` means: a checkpoint, or the newest of a training run.

    Raises CheckpointError if it is neither.
    """
    steps = steps_on_disk(Path(name))
    return steps[-1] if steps else resolve_checkpoint(name)


def _asked_int8(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Checkpoint:
    for name in OF_INT4:
        if getattr(arguments, name) is not None:
            raise TrainingError(f"--{name} goes with --bits 4")
    return quantize_checkpoint(checkpoint)


def _asked_int4(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Checkpoint:
    if checkpoint.bits == 4:
        raise CheckpointError(f"{checkpoint.name} is already 4-bit")
    layout = Int4Layout(
        group=arguments.group or 32, embed_bits=arguments.embeddings or 8
    )
    count = ROWS if arguments.rows is None else arguments.rows
    if count < 1:
        raise TrainingError(f"--rows must be at least 1, got {count}")
    method = arguments.method or "gptq"
    return to_int4(checkpoint, layout, method, arguments.calibration, count)


def to_int4(
    checkpoint: Checkpoint,
    layout: Int4Layout,
    method: str,
    calibration: Path | None,
    count: int,
) -> Checkpoint:
    """The checkpoint in INT4; its provenance says how.

    method: gptq, calibrated on `count` rows of a prepared corpus or, without one, of
    the standard library; or rtn, to the nearest. Raises CheckpointError.
    """
    expected_tensors(checkpoint.config, 4, layout)  # raises if it does not fit
    plain = dequantize_checkpoint(checkpoint)
    check_finite(plain)
    how: dict[str, Any] = {"from_bits": checkpoint.bits, "method": method}
    if method == "rtn":
        matrices = _rounded(plain, layout)
    else:
        how |= {"calibration": str(calibration or "standard library"), "rows": count}
        matrices = _calibrated(plain, layout, calibration, count)
    provenance = {**checkpoint.provenance, "int4": how}
    small = with_int4(plain, layout, matrices)
    return attrs.evolve(small, provenance=provenance)


def _rounded(checkpoint: Checkpoint, layout: Int4Layout) -> dict[str, Int4Matrix]:
    return {
        name: round_matrix(checkpoint.tensors[f"{name}.weight"], layout.group)
        for name in filter(layout.packs, quantized_names(checkpoint.config))
    }


def _calibrated(
    checkpoint: Checkpoint, layout: Int4Layout, folder: Path | None, count: int
) -> dict[str, Int4Matrix]:
    from tabwise_training.gptq import GptqOptions, gptq

    rows = calibration_rows(checkpoint, folder, count)
    return gptq(checkpoint, layout, rows, GptqOptions())


def _say_sizes(checkpoint: Checkpoint, before: Path, after: Path) -> None:
    """Sizes of the files, and of one that held every weight in float32."""
    whole = 4 * count_parameters(checkpoint.config)
    small = after.stat().st_size
    print(f"original   {before.stat().st_size / 1e6:9.2f} MB  {before.parent}")
    print(f"quantised  {small / 1e6:9.2f} MB  {after.parent}")
    print(f"ratio      {whole / small:9.2f} x, to {whole / 1e6:.2f} MB in float32")

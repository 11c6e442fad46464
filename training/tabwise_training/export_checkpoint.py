"""`tabwise export`: a checkpoint in the form of another engine."""

from __future__ import annotations

import argparse
from pathlib import Path

from tabwise_model.checkpoint import CheckpointError, load_checkpoint
from tabwise_model.export.to_huggingface import write_huggingface
from tabwise_training.destination import add_force, check_file, check_folder
from tabwise_training.errors import TrainingError
from tabwise_training.import_checkpoint import describe
from tabwise_training.quantize import find_checkpoint


class MissingPackage(TrainingError):
    """A package that only an extra installs; the message names the extra."""


ERRORS = (TrainingError, CheckpointError)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a checkpoint's folder or name, or a run's")
    parser.add_argument(
        "--format", choices=("hf", "gguf"), required=True, help="hf: Hugging Face"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="hf: folder to write; gguf: file"
    )
    parser.add_argument(
        "--dtype",
        choices=("fp32", "fp16", "bf16", "q8_0"),
        help="hf: fp32 (default), fp16, bf16; gguf: fp32, fp16 (default), q8_0",
    )
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    source = find_checkpoint(arguments.checkpoint)
    write = _write_hf if arguments.format == "hf" else _write_gguf
    file: Path = write(source, arguments)
    print(f"{source} -> {arguments.out}")
    print(describe(load_checkpoint(source)))
    print(f"{file.stat().st_size / 1e6:.2f} MB  {file}")
    return 0


def _write_hf(source: Path, arguments: argparse.Namespace) -> Path:
    out: Path = arguments.out
    check_folder(out, force=arguments.force, source=source)
    write_huggingface(out, load_checkpoint(source), arguments.dtype or "fp32")
    return out / "model.safetensors"


def _write_gguf(source: Path, arguments: argparse.Namespace) -> Path:
    try:
        from tabwise_model.export.to_gguf import write_gguf
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"--format gguf needs {error.name}; install it with: "
            "pip install 'tabwise[export]'"
        ) from error
    out: Path = arguments.out
    check_file(out, force=arguments.force)
    write_gguf(out, load_checkpoint(source), arguments.dtype or "fp16")
    return out

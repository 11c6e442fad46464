"""`tabwise export`: a checkpoint in the form of another engine."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tabwise_model.checkpoint import CheckpointError, load_checkpoint
from tabwise_model.export.to_huggingface import write_huggingface
from tabwise_training.destination import (
    add_force,
    check_file,
    check_folder,
    writing,
)
from tabwise_training.errors import TrainingError
from tabwise_training.import_checkpoint import describe
from tabwise_training.quantize import find_checkpoint


class MissingPackage(TrainingError):
    """A package that only an extra installs; the message names the extra."""


ERRORS = (TrainingError, CheckpointError)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a checkpoint's folder or name, or a run's")
    parser.add_argument(
        "--format", choices=tuple(WRITERS), required=True, help="hf: Hugging Face"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="hf, onnx: folder to write; gguf: file",
    )
    parser.add_argument(
        "--dtype",
        choices=("fp32", "fp16", "bf16", "q8_0"),
        help="hf: fp32 (default), fp16, bf16; gguf: fp32, fp16 (default), q8_0; "
        "onnx: fp32 (default), fp16",
    )
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    source = find_checkpoint(arguments.checkpoint)
    with writing(arguments.out):
        file = WRITERS[arguments.format](source, arguments)
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
    with _needed_by("gguf"):
        from tabwise_model.export.to_gguf import write_gguf
    out: Path = arguments.out
    check_file(out, force=arguments.force)
    write_gguf(out, load_checkpoint(source), arguments.dtype or "fp16")
    return out


def _write_onnx(source: Path, arguments: argparse.Namespace) -> Path:
    with _needed_by("onnx"):
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401

        from tabwise_model.export.to_onnx import MODEL, write_onnx
    out: Path = arguments.out
    check_folder(out, force=arguments.force, source=source)
    write_onnx(out, load_checkpoint(source), arguments.dtype or "fp32")
    return out / MODEL


@contextmanager
def _needed_by(kind: str) -> Iterator[None]:
    """An import that fails here names the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"--format {kind} needs {error.name}; install it with: "
            "pip install 'tabwise[export]'"
        ) from error


WRITERS: Mapping[str, Callable[[Path, argparse.Namespace], Path]] = MappingProxyType(
    {"hf": _write_hf, "gguf": _write_gguf, "onnx": _write_onnx}
)

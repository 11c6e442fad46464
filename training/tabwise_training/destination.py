"""Where a command may write: nothing of the user's is lost without `--force`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from tabwise_model.checkpoint import CONFIG, SUMS, TOKENIZER, WEIGHTS
from tabwise_training.errors import TrainingError

WEIGHT_SUFFIXES = (".safetensors", ".onnx", ".bin")
OF_RUNS = ("training.json", "step-*/training.json")  # a step's folder, a run's


class DestinationError(TrainingError):
    """A place that must not be written; the message names it and the remedy."""


def add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="replace what --out already holds"
    )


def check_folder(out: Path, *, force: bool, source: Path) -> None:
    """Raise DestinationError if `out` cannot become a folder of ours.

    A folder with anything in it needs `force`, and must be a model's: config.json with
    weights. `source`, a folder that holds it, and a training run are never replaced.
    """
    if out.exists() and not out.is_dir():
        raise DestinationError(f"{out} is a file; --out names a folder")
    check_writable(out)
    if not out.exists() or not any(out.iterdir()):
        return
    check_apart(out, source)
    if any(file for pattern in OF_RUNS for file in out.glob(pattern)):
        raise DestinationError(f"{out} holds a training run; choose another --out")
    if not _is_model(out):
        raise DestinationError(
            f"{out} holds something that is no model; choose another --out"
        )
    if not force:
        raise DestinationError(f"{out} is not empty; --force replaces it")


def make_room_for(file: Path) -> None:
    """Leave a folder for `file` to be written in. Raises DestinationError."""
    if file.is_dir():
        raise DestinationError(f"{file} is a folder; name a file in it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DestinationError(
            f"cannot make {file.parent}: {error.strerror}; name another file"
        ) from error
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise DestinationError(f"{file} is not writable; name another file")


def check_apart(out: Path, source: Path) -> None:
    """Raise DestinationError if writing `out` would replace `source`."""
    whole, part = out.resolve(), source.resolve()
    if whole == part:
        raise DestinationError(f"{out} is what is read; choose another --out")
    if whole in part.parents:
        raise DestinationError(
            f"{out} holds {source}, which is read; choose another --out"
        )


def check_writable(out: Path) -> None:
    """Raise DestinationError if nothing can be made where `out` is to lie."""
    above = out.resolve().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise DestinationError(f"{above} is a file; --out cannot lie below it")
    if not os.access(above, os.W_OK | os.X_OK):
        raise DestinationError(f"{above} is not writable; choose another --out")


@contextmanager
def writing(out: Path, option: str = "--out") -> Iterator[None]:
    """What keeps `out` from being written, as a full disk does, is a DestinationError.
    option: names another place."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DestinationError(
            f"cannot write {out}: {reason}; make room or choose another {option}"
        ) from error


def is_checkpoint(folder: Path) -> bool:
    """Whether it is a checkpoint of ours and nothing beside it."""
    files = {CONFIG, WEIGHTS, TOKENIZER, SUMS}
    found = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    return files <= found <= files | {"CARD.md"}


def _is_model(folder: Path) -> bool:
    weights = (file.suffix in WEIGHT_SUFFIXES for file in folder.iterdir())
    return (folder / CONFIG).is_file() and any(weights)


def check_file(out: Path, *, force: bool) -> None:
    """Raise DestinationError if `out` is a folder, or cannot lie there, or is a file
    and not `force`."""
    if out.is_dir():
        raise DestinationError(f"{out} is a folder; --out names a file, such as x.gguf")
    check_writable(out)
    if out.exists() and not force:
        raise DestinationError(f"{out} exists; --force replaces it")

"""Where a command may write: nothing of the user's is lost without `--force`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tabwise_training.errors import TrainingError


class DestinationError(TrainingError):
    """A place that must not be written; the message names it and the remedy."""


def add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="replace what --out already holds"
    )


def check_folder(out: Path, *, force: bool, source: Path) -> None:
    """Raise DestinationError if `out` cannot become a folder of ours.

    A folder with anything in it needs `force`, and must be a model's: one with
    config.json. `source` itself is never replaced.
    """
    if out.exists() and not out.is_dir():
        raise DestinationError(f"{out} is a file; --out names a folder")
    if not out.exists() or not any(out.iterdir()):
        return
    if out.resolve() == source.resolve():
        raise DestinationError(f"{out} is what is read; choose another --out")
    if not (out / "config.json").is_file():
        raise DestinationError(
            f"{out} holds something that is no model; choose another --out"
        )
    if not force:
        raise DestinationError(f"{out} is not empty; --force replaces it")


def check_file(out: Path, *, force: bool) -> None:
    """Raise DestinationError if `out` is a folder, or a file and not `force`."""
    if out.is_dir():
        raise DestinationError(f"{out} is a folder; --out names a file, such as x.gguf")
    if out.exists() and not force:
        raise DestinationError(f"{out} exists; --force replaces it")

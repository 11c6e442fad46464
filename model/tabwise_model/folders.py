"""Folders that take another's place whole."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# of linux/fcntl.h and linux/fs.h
AT_FDCWD, RENAME_EXCHANGE = -100, 2


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """A new folder that takes `folder`'s place in the end; of a failure nothing is
    left."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        yield fresh
        replace_folder(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def replace_folder(fresh: Path, folder: Path) -> None:
    """Put `fresh` in `folder`'s place; both on one file system.

    In one step on Linux, where the file system can. Elsewhere there is none at all
    between two renames, and a crash there leaves the old one in a hidden folder.
    """
    if not folder.exists():
        fresh.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    if _exchange(fresh, folder):
        fresh.rename(old / "was")
    else:
        folder.rename(old / "was")
        fresh.rename(folder)
    shutil.rmtree(old)


def push_to_disk(folder: Path, names: Sequence[str]) -> None:
    """Its files' contents, which a crash of the machine could otherwise lose."""
    for name in names:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


def _exchange(one: Path, other: Path) -> bool:
    """Give each the other's name, in one step; False where the system or the file
    system has no such step."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    names = [os.fsencode(one), os.fsencode(other)]
    done = rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)
    return bool(done == 0)

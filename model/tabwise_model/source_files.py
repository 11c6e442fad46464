"""The files of a folder of code, without what is not its own."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

SKIPPED_FOLDERS = frozenset(
    {".git", ".venv", "venv", "__pycache__", "node_modules", "site-packages", ".tox"}
)
GIT_S = 60.0  # after which git is taken to hang


def list_files(root: Path, most: int | None = None) -> list[str]:
    """Relative paths of a folder's files: in a git repository those that git does not
    ignore, some of which may be gone; elsewhere of the first `most` that are found."""
    found = _git_files(root)
    if found is None:
        found = list(itertools.islice(_walk(root), most))
    return [p for p in found if SKIPPED_FOLDERS.isdisjoint(p.split("/")[:-1])]


def _git_files(root: Path) -> list[str] | None:
    """Tracked and untracked, not ignored files; None if git cannot say, or all of the
    folder is ignored.

    A repository may name a program that git is to ask for changed files: of somebody
    else's, none is run.
    """
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(root), "ls-files", "-z"]
    try:
        done = subprocess.run(
            [*command, "-co", "--exclude-standard"],
            capture_output=True,
            check=False,
            timeout=GIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0 or not done.stdout:
        return None
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS]
        for name in names:
            yield Path(folder, name).relative_to(root).as_posix()

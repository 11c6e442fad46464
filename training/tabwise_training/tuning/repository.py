"""A user's repository as documents to tune on, to choose by, and to be judged by."""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from tabwise_model.source_filters import own_text
from tabwise_training.corpus.sources import list_folder, read_folder
from tabwise_training.errors import TrainingError
from tabwise_training.evaluation.positions import KINDS, CursorKind, kinds_in

Text = tuple[str, str]  # path, text
HELD_OUT_SHARE = 0.15  # of characters, never trained on: the figures
CHOICE_SHARE = 0.10  # of the rest: which of the run's weights are kept
LEAST_FILES = 4
_COMMIT = re.compile(r"@(\d+)")


@attrs.frozen(kw_only=True)
class Parts:
    """A repository's files by what they are for."""

    train: list[Text]
    choose: list[Text]
    held_out: list[Text]


def read_repository(root: Path) -> list[Text]:
    """(path, text) of the Python files that are worth learning from, by path.

    What git ignores, generated files, and data are left out. Raises TrainingError if
    too few are left.
    """
    paths = [path for path in list_folder(root) if path.endswith(".py")]
    read = ((path, own_text(data)) for path, data in read_folder(root, paths))
    found = [(path, text) for path, text in read if text is not None]
    if len(found) < LEAST_FILES:
        raise TrainingError(
            f"{root} has {len(found)} Python files to learn from, of {len(paths)}; "
            f"at least {LEAST_FILES} are needed"
        )
    return found


def split_repository(files: Sequence[Text], added: Mapping[str, float]) -> Parts:
    """The newest files are held out; the rest is divided by the hash of the path.

    added: when a path was added, in seconds; a path without an entry is newest of all
    where others have one, so for no entries at all the hash alone decides. Where the
    newest have no place to measure at, as files of imports, those that do are held out.
    """
    newest = {path: -added.get(path, math.inf) for path, _ in files}
    order = sorted(files, key=lambda file: (newest[file[0]], _draw(file[0])))
    held_out, rest = _take(order, HELD_OUT_SHARE)
    if not _measurable(held_out) and (fit := [f for f in order if _measurable([f])]):
        held_out, rest = _take(fit, HELD_OUT_SHARE)
        rest += [file for file in order if file not in fit]
    choose, train = _take(sorted(rest, key=lambda f: _draw(f[0])), CHOICE_SHARE)
    return Parts(train=sorted(train), choose=choose, held_out=held_out)


def added_times(root: Path) -> dict[str, float]:
    """When each path was last added, by git's commits; empty without a repository."""
    command = [
        *("git", "-C", str(root), "-c", "core.quotePath=false", "log"),
        *("--diff-filter=A", "--no-renames", "--relative", "--format=@%ct"),
        "--name-only",
    ]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return {}
    times: dict[str, float] = {}
    now = 0.0
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if commit := _COMMIT.fullmatch(line):
            now = float(commit[1])
        elif line:
            times.setdefault(line, now)
    return times


def _take(files: Sequence[Text], share: float) -> tuple[list[Text], list[Text]]:
    """(the first files up to `share` of all characters, the others); neither is empty.

    A file that would take far more than the share stays with the others.
    """
    wanted = share * sum(len(text) for _, text in files)
    taken: list[Text] = []
    left: list[Text] = []
    size = 0
    for file in files:
        if size < wanted and size + len(file[1]) <= 1.5 * wanted:
            taken.append(file)
            size += len(file[1])
        else:
            left.append(file)
    if not taken:
        smallest = min(left, key=lambda file: len(file[1]))
        left.remove(smallest)
        taken.append(smallest)
    return taken, left


def _measurable(files: Sequence[Text]) -> bool:
    """Whether there is a place for every kind of cursor."""
    kinds = frozenset[CursorKind]().union(*(kinds_in(text) for _, text in files))
    return kinds == frozenset(KINDS)


def _draw(path: str) -> bytes:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()

"""Code that is not the user's: replayed so that it is not forgotten, and measured.

It is Python's own standard library, which is there wherever this runs, divided by the
hash of the path.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tabwise_training.corpus.filters import decode, reason_to_drop
from tabwise_training.corpus.sources import is_test, read_folder, stdlib_folder
from tabwise_training.errors import TrainingError
from tabwise_training.tuning.repository import Parts

SKIPPED = frozenset({"site-packages", "dist-packages", "idlelib", "lib2to3"})


def standard_library(root: Path | None = None) -> Parts:
    """Its modules, tests left out: 80 % to replay, 10 % to choose by, 10 % to report.

    Raises TrainingError if they are not there as source.
    """
    root = root or stdlib_folder()
    paths = [
        path
        for path in sorted(p.relative_to(root).as_posix() for p in root.rglob("*.py"))
        if SKIPPED.isdisjoint(path.split("/")) and not is_test(path)
    ]
    parts = Parts(train=[], choose=[], held_out=[])
    for path, data in read_folder(root, paths):
        text = decode(data)
        if text is not None and reason_to_drop(text) is None:
            place = int(hashlib.sha256(path.encode()).hexdigest(), 16) % 10
            part = {0: parts.held_out, 1: parts.choose}.get(place, parts.train)
            part.append((path, text))
    if not (parts.train and parts.choose and parts.held_out):
        raise TrainingError(f"{root} does not hold the standard library's source")
    return parts

"""Code that is not the user's: replayed so that it is not forgotten, and measured.

It is what lies on every machine that tunes: Python's own standard library, divided by
the hash of the path, and the packages installed beside it, each in one part as a whole.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from tabwise_model.source_filters import decode, reason_to_drop
from tabwise_training.corpus.sources import (
    is_test,
    is_vendored,
    read_folder,
    stdlib_folder,
)
from tabwise_training.errors import TrainingError
from tabwise_training.tuning.repository import Parts, Text

# Nobody's code, or tables.
SKIPPED = frozenset(
    {"site-packages", "dist-packages", "idlelib", "lib2to3", "encodings", "pydoc_data"}
)
PACKAGE_CHARS = 400_000  # of one installed package
INSTALLED_CHARS = 8_000_000  # of all of them


def general_code(own: Iterable[Text]) -> Parts:
    """The standard library and what is installed, without texts that `own` has too."""
    known = {text for _, text in own}
    parts = standard_library()
    for name, files in installed_packages(Path(sysconfig.get_path("purelib"))):
        part = _part(parts, name)
        part += [(path, text) for path, text in files if text not in known]
    return parts


def standard_library(root: Path | None = None) -> Parts:
    """Its modules, tests left out: 80 % to replay, 10 % to choose by, 10 % to report.

    Raises TrainingError if they are not there as source.
    """
    root = root or stdlib_folder()
    parts = Parts(train=[], choose=[], held_out=[])
    for path, text in _usable(root, root):
        _part(parts, path).append((path, text))
    if not (parts.train and parts.choose and parts.held_out):
        raise TrainingError(f"{root} does not hold the standard library's source")
    return parts


def installed_packages(
    root: Path, most: int = INSTALLED_CHARS
) -> Iterator[tuple[str, list[Text]]]:
    """(name, files) of the packages in a folder, in an order of no meaning, up to
    `most` characters of all and PACKAGE_CHARS of one; tests and vendored code left out.
    """
    packages = [
        folder for folder in root.iterdir() if (folder / "__init__.py").exists()
    ]
    for folder in sorted(packages, key=lambda folder: _draw(folder.name)):
        files: list[Text] = []
        size = 0
        for path, text in _usable(root, folder):
            files.append((path, text))
            size += len(text)
            if size >= PACKAGE_CHARS:
                break
        if files:
            yield folder.name, files
        most -= size
        if most <= 0:
            return


def _usable(root: Path, folder: Path) -> Iterator[Text]:
    """(path from root, text) of what a corpus would take in, in an order of no meaning
    below an installed package, by path in the standard library."""
    paths = [p.relative_to(root).as_posix() for p in folder.rglob("*.py")]
    paths = [
        path
        for path in sorted(paths, key=_draw if folder != root else str)
        if SKIPPED.isdisjoint(path.split("/"))
        and not is_test(path)
        and not is_vendored(path)
    ]
    for path, data in read_folder(root, paths):
        text = decode(data)
        if text is not None and reason_to_drop(text) is None:
            yield path, text


def _part(parts: Parts, name: str) -> list[Text]:
    place = _draw(name) % 10
    return {0: parts.held_out, 1: parts.choose}.get(place, parts.train)


def _draw(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16)

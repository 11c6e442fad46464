"""Where source files come from: folders, git repositories, wheels, the stdlib.

A source gives (path, bytes) of its *.py in a fixed order and knows nothing of filters.
"""

from __future__ import annotations

import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tabwise_model.source_files import list_files
from tabwise_training.corpus.licences import is_licence_file
from tabwise_training.errors import CorpusError

VENDORED_FOLDERS = frozenset(
    {
        "_distutils",
        "_external",
        "_vendor",
        "_vendored",
        "_vendored_packages",
        "extern",
        "externals",
        "third_party",
        "thirdparty",
        "vendor",
        "vendored",
    }
)
TEST_FOLDERS = frozenset({"test", "tests", "testing", "_tests", "idle_test"})
File = tuple[str, bytes]


def is_vendored(path: str) -> bool:
    return not VENDORED_FOLDERS.isdisjoint(path.lower().split("/")[:-1])


def is_test(path: str) -> bool:
    """Whether a path is that of a test by Python's usual names."""
    *folders, name = path.lower().split("/")
    return (
        not TEST_FOLDERS.isdisjoint(folders)
        or name.startswith("test_")
        or name.endswith("_test.py")
        or name == "conftest.py"
    )


def list_folder(root: Path) -> list[str]:
    """Relative paths of a folder's *.py and licence files, sorted.

    In a git repository what git ignores is not listed. Raises CorpusError if `root` is
    not a folder.
    """
    if not root.is_dir():
        raise CorpusError(f"{root} is not a folder")
    return sorted(
        path
        for path in list_files(root)
        if (path.endswith(".py") or is_licence_file(path)) and (root / path).is_file()
    )


def read_folder(root: Path, paths: list[str]) -> Iterator[File]:
    """Raises CorpusError naming a file that cannot be read."""
    for path in paths:
        try:
            yield path, (root / path).read_bytes()
        except OSError as error:
            raise CorpusError(f"cannot read {root / path}: {error.strerror}") from error


def licences_above(root: Path) -> Iterator[File]:
    """The licence files of the folders that a folder lies in, up to its git
    repository's; none outside of one. Raises CorpusError as `read_folder`."""
    here = root.resolve()
    folders = [here, *here.parents]
    top = next((i for i, f in enumerate(folders) if (f / ".git").exists()), 0)
    for folder in folders[1 : top + 1]:
        files = (file for file in folder.glob("*") if is_licence_file(file.name))
        yield from read_folder(folder, sorted(f.name for f in files if f.is_file()))


def read_wheel(file: Path) -> Iterator[File]:
    """A wheel's *.py and licence files, sorted. Raises CorpusError if it is no zip."""
    try:
        with zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".py") or is_licence_file(name):
                    yield name, archive.read(name)
    except (zipfile.BadZipFile, OSError) as error:
        raise CorpusError(f"{file} is not a readable wheel: {error}") from error


def wheel_paths(file: Path) -> frozenset[str]:
    """The names of everything in a wheel. Raises CorpusError if it is no zip."""
    try:
        with zipfile.ZipFile(file) as archive:
            return frozenset(archive.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise CorpusError(f"{file} is not a readable wheel: {error}") from error


def wheel_metadata(file: Path) -> str:
    """A wheel's METADATA, empty if it has none."""
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith(".dist-info/METADATA"):
                    return archive.read(name).decode("utf-8", "replace")
    except (zipfile.BadZipFile, OSError) as error:
        raise CorpusError(f"{file} is not a readable wheel: {error}") from error
    return ""


def stdlib_folder() -> Path:
    return Path(sysconfig.get_path("stdlib"))

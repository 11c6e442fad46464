"""Where source files come from: folders, git repositories, wheels, the standard library.

Each source gives (path, bytes) in a fixed order and knows nothing of filters.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tabwise_training.errors import CorpusError

SKIPPED_FOLDERS = frozenset(
    {".git", ".venv", "venv", "__pycache__", "node_modules", "site-packages", ".tox"}
)
VENDORED_FOLDERS = frozenset(
    {
        "_vendor",
        "vendor",
        "_vendored",
        "vendored",
        "_vendored_packages",
        "third_party",
        "_external",
        "extern",
        "externals",
        "thirdparty",
        "pep517",
        "_distutils",
    }
)
File = tuple[str, bytes]


def is_vendored(path: str) -> bool:
    return not VENDORED_FOLDERS.isdisjoint(path.lower().split("/")[:-1])


def is_test(path: str) -> bool:
    """Whether a path is that of a test by Python's usual names."""
    *folders, name = path.lower().split("/")
    return (
        not {"test", "tests", "testing", "_tests"}.isdisjoint(folders)
        or name.startswith("test_")
        or name.endswith("_test.py")
        or name == "conftest.py"
    )


def list_folder(root: Path) -> list[str]:
    """Relative paths of a folder's *.py, sorted; what git ignores is not listed.

    Raises CorpusError if the folder does not exist.
    """
    if not root.is_dir():
        raise CorpusError(f"{root} is not a folder")
    listed = _git_files(root) if (root / ".git").exists() else None
    found = _walk(root) if listed is None else listed
    return sorted(
        path
        for path in found
        if path.endswith(".py")
        and SKIPPED_FOLDERS.isdisjoint(path.split("/")[:-1])
        and (root / path).is_file()
    )


def _git_files(root: Path) -> list[str] | None:
    """Tracked and untracked, not ignored files; None if git cannot say."""
    command = ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    if done.returncode != 0:
        return None
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS]
        for name in names:
            yield Path(folder, name).relative_to(root).as_posix()


def read_folder(root: Path, paths: list[str]) -> Iterator[File]:
    for path in paths:
        yield path, (root / path).read_bytes()


def read_wheel(file: Path) -> Iterator[File]:
    """The *.py of a wheel, by path. Raises CorpusError if it is not a readable zip."""
    try:
        with zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".py"):
                    yield name, archive.read(name)
    except (zipfile.BadZipFile, OSError) as error:
        raise CorpusError(f"{file} is not a readable wheel: {error}") from error


def read_metadata(file: Path) -> dict[str, str]:
    """Text of everything in a wheel's .dist-info folder that names its licence."""
    with zipfile.ZipFile(file) as archive:
        return {
            name: archive.read(name).decode("utf-8", "replace")
            for name in archive.namelist()
            if ".dist-info/" in name and not name.endswith(("/", "RECORD"))
        }


def stdlib_folder() -> Path:
    return Path(sysconfig.get_path("stdlib"))

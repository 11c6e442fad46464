"""Fetching pinned releases with the user's own pip, and checking what came."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from tabwise_training.corpus.licences import confirms, is_licence_file
from tabwise_training.corpus.manifest import Package
from tabwise_training.corpus.sources import read_metadata
from tabwise_training.errors import DownloadError, LicenceError


def fetch(package: Package, folder: Path) -> Path:
    """The package's wheel in `folder`, downloaded if it is not there yet.

    Raises DownloadError if pip cannot get it or its SHA-256 is not the manifest's.
    """
    file = _find(package, folder)
    if file is None:
        _download(package, folder)
        file = _find(package, folder)
    if file is None:
        raise DownloadError(f"pip left no wheel of {_pin(package)} in {folder}")
    if package.sha256 and sha256_of(file) != package.sha256:
        raise DownloadError(
            f"{file} has SHA-256 {sha256_of(file)}, the manifest says "
            f"{package.sha256}; delete the file, or run with --update-hashes if the "
            "release is meant to change"
        )
    return file


def check_licence(package: Package, wheel: Path) -> None:
    """Raises LicenceError unless a licence file in the wheel confirms the manifest."""
    info = read_metadata(wheel)
    texts = [text for name, text in info.items() if is_licence_file(name)]
    if not texts:
        raise LicenceError(f"{wheel.name} holds no licence file; leave the package out")
    if not confirms(package.licence, texts):
        raise LicenceError(
            f"the licence files of {wheel.name} are not {package.licence}; "
            "correct the manifest or leave the package out"
        )


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pin(package: Package) -> str:
    return f"{package.name}=={package.version}"


def _find(package: Package, folder: Path) -> Path | None:
    wanted = (_normal(package.name), package.version)
    for file in sorted(folder.glob("*.whl")):
        name, version, *_ = file.name.split("-")
        if (_normal(name), version) == wanted:
            return file
    return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _download(package: Package, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:"]
    command += ["--dest", str(folder), _pin(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DownloadError(f"pip cannot fetch {_pin(package)}: {said}")

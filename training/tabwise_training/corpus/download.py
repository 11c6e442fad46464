"""Fetching pinned releases with the user's own pip, and checking what came."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from tabwise_training.corpus.licences import (
    COPYLEFT,
    covers,
    declared,
    is_licence_file,
    recognise,
)
from tabwise_training.corpus.manifest import Package
from tabwise_training.corpus.sources import read_wheel, wheel_metadata
from tabwise_training.errors import DownloadError, LicenceError


def fetch(package: Package, folder: Path, verify: bool = True) -> Path:
    """The package's wheel in `folder`, downloaded if it is not there yet.

    Raises DownloadError if pip cannot get it, or, with `verify`, if the manifest has
    no SHA-256 for it or another.
    """
    file = _find(package, folder)
    if file is None:
        _download(package, folder)
        file = _find(package, folder)
    if file is None:
        raise DownloadError(f"pip left no wheel of {package.pin} in {folder}")
    if verify:
        _verify(package, file)
    return file


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _verify(package: Package, file: Path) -> None:
    if package.sha256 is None:
        raise DownloadError(
            f"the manifest has no sha256 for {package.pin}; run with --update-hashes"
        )
    found = sha256_of(file)
    if found != package.sha256:
        raise DownloadError(
            f"{file} has SHA-256 {found}, the manifest says {package.sha256}; delete "
            "the file to fetch it again, or run with --update-hashes to accept it"
        )


def check_licence(package: Package, wheel: Path) -> None:
    """Raises LicenceError unless metadata and licence files confirm the manifest."""
    said = declared(wheel_metadata(wheel))
    if COPYLEFT in said or (said and not covers(package.licence, said)):
        raise LicenceError(
            f"{wheel.name} declares {', '.join(sorted(said))}, the manifest says "
            f"{package.licence}; leave the package out"
        )
    texts = [
        data.decode("utf-8", "replace")
        for path, data in read_wheel(wheel)
        if ".dist-info/" in path and is_licence_file(path)
    ]
    if not texts:
        raise LicenceError(f"{wheel.name} has no licence file; leave the package out")
    if not covers(package.licence, set().union(*map(recognise, texts))):
        raise LicenceError(
            f"the licence files of {wheel.name} are not {package.licence}; "
            "leave the package out"
        )


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
    if package.python is not None:
        command += ["--python-version", package.python]
    command += ["--dest", str(folder), package.pin]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DownloadError(f"pip cannot fetch {package.pin}: {_reason(done.stderr)}")


def _reason(stderr: str) -> str:
    """The last line of pip's that tells an error."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it gave no reason"])[-1].removeprefix("ERROR: ")

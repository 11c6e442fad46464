"""`tabwise collect`: gather source code into the splits of a corpus."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tabwise_training.corpus.assemble import assemble
from tabwise_training.corpus.decontaminate import Contamination, read_tasks
from tabwise_training.corpus.download import check_licence, fetch, sha256_of
from tabwise_training.corpus.licences import copyleft_folders
from tabwise_training.corpus.manifest import (
    Manifest,
    Package,
    load_manifest,
    with_hashes,
)
from tabwise_training.corpus.report import MB
from tabwise_training.corpus.screen import Unit
from tabwise_training.corpus.sources import (
    licences_above,
    list_folder,
    read_folder,
    stdlib_folder,
)
from tabwise_training.errors import CorpusError, TrainingError

ERRORS = (TrainingError,)
CHUNK = 500  # files of a folder screened at once
DOWNLOADS = 6  # at a time


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folders", nargs="*", type=Path, metavar="FOLDER", help="code to train on")
    add("--val", nargs="+", type=Path, default=[], metavar="FOLDER", help="to validate")
    add("--test", nargs="+", type=Path, default=[], metavar="FOLDER", help="held out")
    add("--manifest", type=Path, help="a TOML list of PyPI packages")
    add("--out", type=Path, default=Path("data/corpus"), help="where the corpus goes")
    add("--downloads", type=Path, default=Path("data/downloads"), help="kept wheels")
    add(
        "--decontaminate",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="evaluation tasks (HumanEval-Infilling) that no file may share code with",
    )
    add(
        "--any-licence",
        action="store_true",
        help="keep folders with a copyleft licence file (your own code)",
    )
    add(
        "--update-hashes",
        action="store_true",
        help="fetch the packages and write their SHA-256 into the manifest, no more",
    )
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes")


def run(arguments: argparse.Namespace) -> int:
    if arguments.update_hashes:
        return update_hashes(arguments.manifest, arguments.downloads)
    contamination = Contamination(read_tasks(arguments.decontaminate))
    units = _folder_units(arguments)
    if arguments.manifest is not None:
        manifest = load_manifest(arguments.manifest)
        units += manifest_units(manifest, arguments.downloads)
    if not units:
        raise CorpusError("nothing to collect; name folders or --manifest FILE")
    report = assemble(units, arguments.out, contamination, max(1, arguments.jobs))
    for line in report.lines():
        print(line)
    if not report.totals().get("train", {}).get("files"):
        raise CorpusError("no file for training is left; see the table for why")
    return 0


def update_hashes(file: Path | None, downloads: Path) -> int:
    """Write the SHA-256 of each of a manifest's packages into it."""
    if file is None:
        raise CorpusError("--update-hashes needs --manifest FILE")
    packages = load_manifest(file).package
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        work = partial(fetch, folder=downloads, verify=False)
        wheels = list(pool.map(work, packages))
    hashes = {
        (package.name, package.version): sha256_of(wheel)
        for package, wheel in zip(packages, wheels, strict=True)
    }
    part = file.with_name(file.name + ".part")
    part.write_text(with_hashes(file.read_text(encoding="utf-8"), hashes), "utf-8")
    part.replace(file)
    print(f"{len(hashes)} hashes written to {file}")
    return 0


def manifest_units(manifest: Manifest, downloads: Path) -> list[Unit]:
    """What a manifest names, downloaded and checked. Raises DownloadError,
    LicenceError."""
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        wheels = dict(
            zip(
                manifest.package,
                pool.map(partial(_checked, downloads=downloads), manifest.package),
                strict=True,
            )
        )
    units = [_package_unit(manifest, package, wheels) for package in manifest.package]
    return [*_stdlib_units(manifest), *units]


def _checked(package: Package, downloads: Path) -> Path:
    wheel = fetch(package, downloads)
    check_licence(package, wheel)
    return wheel


def _package_unit(
    manifest: Manifest, package: Package, wheels: dict[Package, Path]
) -> Unit:
    late = package.split == "time"
    return Unit(
        package=package.name,
        family=package.family,
        split=package.split,
        source=wheels[package],
        earlier=wheels[manifest.earlier(package)] if late else None,
        cap_bytes=int((package.cap_mb or manifest.cap_mb) * MB),
        test_share=manifest.test_share,
    )


def _stdlib_units(manifest: Manifest) -> list[Unit]:
    if manifest.stdlib is None:
        return []
    root = stdlib_folder()
    return [
        Unit(
            package="python",
            family="stdlib",
            split=manifest.stdlib.split,
            source=root,
            paths=[path for path in list_folder(root) if path.endswith(".py")],
            cap_bytes=int((manifest.stdlib.cap_mb or manifest.cap_mb) * MB),
            test_share=manifest.test_share,
        )
    ]


def _folder_units(arguments: argparse.Namespace) -> list[Unit]:
    named = {"train": arguments.folders, "val": arguments.val, "test": arguments.test}
    return [
        unit
        for split, folders in named.items()
        for folder in folders
        for unit in folder_units(folder, split, arguments.any_licence)
    ]


def folder_units(folder: Path, split: str, any_licence: bool = False) -> list[Unit]:
    """A folder or git repository in pieces. Raises CorpusError if it has no *.py."""
    found = list_folder(folder)
    paths = [path for path in found if path.endswith(".py")]
    if not paths:
        raise CorpusError(f"{folder} holds no *.py")
    name = folder.resolve().name
    copyleft = () if any_licence else _copyleft(folder, found)
    return [
        Unit(
            package=name,
            family=name,
            split=split,
            source=folder,
            paths=paths[start : start + CHUNK],
            copyleft=copyleft,
        )
        for start in range(0, len(paths), CHUNK)
    ]


def _copyleft(folder: Path, found: list[str]) -> tuple[str, ...]:
    """See `Unit.copyleft`; found: the folder's files."""
    if copyleft_folders(licences_above(folder)):
        return ("",)
    own = [path for path in found if not path.endswith(".py")]
    return copyleft_folders(read_folder(folder, own))

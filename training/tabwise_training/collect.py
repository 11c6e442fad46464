"""`tabwise collect`: gather source code into the splits of a corpus."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tabwise_training.corpus.assemble import Report, assemble
from tabwise_training.corpus.decontaminate import Contamination, read_tasks
from tabwise_training.corpus.download import check_licence, fetch
from tabwise_training.corpus.manifest import Manifest, Package, load_manifest
from tabwise_training.corpus.screen import MB, Unit
from tabwise_training.corpus.sources import list_folder, stdlib_folder
from tabwise_training.errors import CorpusError, TrainingError

ERRORS = (TrainingError,)
CHUNK = 500  # files of a folder screened at once


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--manifest", type=Path, help="a TOML list of packages")
    parser.add_argument("--out", type=Path, default=Path("data/corpus"))
    parser.add_argument("--downloads", type=Path, default=Path("data/downloads"))
    parser.add_argument(
        "--decontaminate", nargs="*", type=Path, default=[], metavar="FILE"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)


def run(arguments: argparse.Namespace) -> int:
    units = [unit for folder in arguments.folders for unit in folder_units(folder)]
    if arguments.manifest is not None:
        manifest = load_manifest(arguments.manifest)
        units += manifest_units(manifest, arguments.downloads)
    if not units:
        raise CorpusError("nothing to collect; name folders or --manifest FILE")
    contamination = Contamination(read_tasks(arguments.decontaminate))
    report = assemble(units, arguments.out, contamination, arguments.jobs)
    print_report(report)
    return 0


def folder_units(folder: Path) -> list[Unit]:
    paths = list_folder(folder)
    if not paths:
        raise CorpusError(f"{folder} holds no *.py")
    name = folder.resolve().name
    return [
        Unit(
            package=name,
            family=name,
            split="train",
            source=folder,
            paths=paths[i : i + CHUNK],
        )
        for i in range(0, len(paths), CHUNK)
    ]


def manifest_units(manifest: Manifest, downloads: Path) -> list[Unit]:
    def unit(package: Package) -> Unit:
        wheel = fetch(package, downloads)
        check_licence(package, wheel)
        return Unit(
            package=package.name,
            family=package.family,
            split=package.split,
            source=wheel,
            cap_bytes=int((package.cap_mb or manifest.cap_mb) * MB),
            test_share=manifest.test_share,
        )

    with ThreadPoolExecutor(6) as pool:
        units = list(pool.map(unit, manifest.package))
    return [*stdlib_units(manifest), *units]


def stdlib_units(manifest: Manifest) -> list[Unit]:
    if manifest.stdlib is None:
        return []
    return [
        Unit(
            package="python",
            family="stdlib",
            split=manifest.stdlib.split,
            source=stdlib_folder(),
            paths=list_folder(stdlib_folder()),
            cap_bytes=int((manifest.stdlib.cap_mb or manifest.cap_mb) * MB),
            test_share=manifest.test_share,
        )
    ]


def print_report(report: Report) -> None:
    for row in report.packages:
        print(
            f"{row['split']:5} {row['package']:28} {row['files']:6} files "
            f"{row['bytes'] / MB:7.2f} MB of {row['found'][1] / MB:7.2f} MB"
        )
    for reason, found in report.dropped().items():
        print(
            f"dropped: {reason:18} {found['files']:7} files {found['bytes'] / MB:8.2f} MB"
        )
    for split, total in report.totals().items():
        print(f"{split}: {total}")

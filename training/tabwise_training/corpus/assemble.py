"""From screened sources to the corpus: duplicates out, splits written, report made."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
from tqdm import tqdm

from tabwise_training.corpus.decontaminate import Contamination
from tabwise_training.corpus.duplicates import Duplicates
from tabwise_training.corpus.manifest import SPLITS
from tabwise_training.corpus.screen import Kept, Screened, Unit, screen


@attrs.define(kw_only=True)
class Report:
    """What the corpus is made of and what was left out; the JSON beside it."""

    packages: list[dict[str, Any]] = attrs.field(factory=list)
    contaminated: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "splits": self.totals(),
            "dropped": self.dropped(),
            "packages": self.packages,
        }

    def totals(self) -> dict[str, dict[str, int]]:
        totals: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        for row in self.packages:
            totals[row["split"]].update(
                packages=1, files=row["files"], bytes=row["bytes"]
            )
        return {split: dict(total) for split, total in totals.items()}

    def dropped(self) -> dict[str, dict[str, int]]:
        files: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for row in self.packages:
            for reason, (count, size) in row["dropped"].items():
                files[reason] += count
                sizes[reason] += size
        return {r: {"files": n, "bytes": sizes[r]} for r, n in files.most_common()}


def assemble(
    units: list[Unit], out: Path, contamination: Contamination, processes: int
) -> Report:
    """Write `out`/{train,val,test}.jsonl and report.json; earlier ones stay until done.

    A file that repeats one of an earlier split is dropped from the later: train, val,
    test, in this order.
    """
    out.mkdir(parents=True, exist_ok=True)
    units = sorted(units, key=lambda unit: SPLITS.index(unit.split))
    report, seen = Report(), Duplicates()
    with TemporaryDirectory(dir=out, prefix=".spool-") as folder:
        spools = [Path(folder, str(i)) for i in range(len(units))]
        work = partial(screen, contamination=contamination)
        parts = {split: Path(folder, f"{split}.jsonl") for split in SPLITS}
        for part in parts.values():
            part.touch()
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            done = pool.map(work, units, spools)
            for screened in tqdm(done, total=len(units), unit="source"):
                _append(screened, parts[screened.unit.split], seen, report)
        for split in SPLITS:
            parts[split].replace(out / f"{split}.jsonl")
    _write_json(out / "report.json", report.to_json())
    return report


def _append(screened: Screened, part: Path, seen: Duplicates, report: Report) -> None:
    """Copy what is new from a spool to its split, and delete the spool."""
    unit = screened.unit
    files = size = 0
    with screened.spool.open("rb") as lines, part.open("ab") as stream:
        for kept, line in zip(screened.kept, lines, strict=True):
            found = seen.add(f"{unit.package}/{kept.path}", kept.digest, kept.signature)
            if found is not None:
                screened.drop(_reason(found, kept), kept.size)
                continue
            stream.write(line)
            files, size = files + 1, size + kept.size
    screened.spool.unlink()
    reasons = [reason for reason in screened.files if reason != "found"]
    report.packages.append(
        {
            "package": unit.package,
            "family": unit.family,
            "split": unit.split,
            "found": [screened.files["found"], screened.sizes["found"]],
            "files": files,
            "bytes": size,
            "dropped": {
                r: [screened.files[r], screened.sizes[r]] for r in sorted(reasons)
            },
        }
    )


def _reason(found: tuple[str, str], kept: Kept) -> str:
    return found[0]


def _write_json(file: Path, data: dict[str, Any]) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    part.replace(file)

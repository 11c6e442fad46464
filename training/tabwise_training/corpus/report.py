"""What a corpus is made of and what was left out: report.json and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs

from tabwise_training.corpus.manifest import SPLITS
from tabwise_training.corpus.screen import Tally, Unit

MB = 1_000_000


@attrs.define(kw_only=True)
class PackageReport:
    """One package's part; a folder screened in pieces is one package."""

    package: str
    family: str
    split: str
    files: int = 0
    size: int = 0
    tally: Tally = attrs.field(factory=Tally)

    def to_json(self) -> dict[str, Any]:
        tally = self.tally
        return {
            "package": self.package,
            "family": self.family,
            "split": self.split,
            "files": self.files,
            "bytes": self.size,
            "found": {"files": tally.found_files, "bytes": tally.found_bytes},
            "dropped": dropped_to_json(tally),
        }


@attrs.define
class Report:
    """All packages, in the order of the corpus."""

    packages: dict[tuple[str, str], PackageReport] = attrs.field(factory=dict)

    def of(self, unit: Unit) -> PackageReport:
        fresh = PackageReport(
            package=unit.package, family=unit.family, split=unit.split
        )
        return self.packages.setdefault((unit.package, unit.split), fresh)

    def tally(self) -> Tally:
        """All packages' tallies as one."""
        whole = Tally()
        for row in self.packages.values():
            whole.add(row.tally, f"{row.package}: ")
        return whole

    def totals(self) -> dict[str, dict[str, int]]:
        totals = {split: Counter[str]() for split in SPLITS}
        for row in self.packages.values():
            totals[row.split].update(packages=1, files=row.files, bytes=row.size)
        return {split: dict(total) for split, total in totals.items() if total}

    def to_json(self) -> dict[str, Any]:
        whole = self.tally()
        return {
            "splits": self.totals(),
            "found": {"files": whole.found_files, "bytes": whole.found_bytes},
            "dropped": dropped_to_json(whole),
            "named": [{"reason": r, "path": p} for r, p in sorted(whole.named)],
            "packages": [row.to_json() for row in self.packages.values()],
        }

    def lines(self) -> Iterator[str]:
        """The report as a table."""
        for row in self.packages.values():
            yield (
                f"{row.split:5} {row.package:28} {_amount(row.files, row.size)} of "
                f"{_amount(row.tally.found_files, row.tally.found_bytes)}"
            )
        whole = self.tally()
        for reason, files in whole.files.most_common():
            yield f"dropped: {reason:25} {_amount(files, whole.sizes[reason])}"
        for split, total in self.totals().items():
            name = f"{split}, {total['packages']} packages"
            yield f"{name:34} {_amount(total['files'], total['bytes'])}"


def dropped_to_json(tally: Tally) -> dict[str, dict[str, int]]:
    return {
        reason: {"files": files, "bytes": tally.sizes[reason]}
        for reason, files in tally.files.most_common()
    }


def _amount(files: int, size: int) -> str:
    return f"{files:7,} files {size / MB:8.2f} MB"

"""From screened sources to a corpus: duplicates out, splits written, report made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from tabwise_training.corpus.decontaminate import Contamination
from tabwise_training.corpus.duplicates import Duplicates
from tabwise_training.corpus.manifest import SPLITS
from tabwise_training.corpus.report import PackageReport, Report
from tabwise_training.corpus.screen import Screened, Unit, screen
from tabwise_training.corpus.workers import ordered_map
from tabwise_training.errors import CorpusError


def assemble(
    units: Sequence[Unit], out: Path, contamination: Contamination, processes: int
) -> Report:
    """Write `out`/{train,val,test,time}.jsonl and report.json.

    They replace earlier ones when all is done, not before. A file that repeats one of
    an earlier split is dropped from the later. Raises CorpusError naming the folder if
    it cannot be written.
    """
    units = sorted(units, key=lambda unit: SPLITS.index(unit.split))
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix=".part-") as part:
            report = _assemble(units, Path(part), contamination, processes)
            for file in Path(part).iterdir():
                file.replace(out / file.name)
    except OSError as error:
        raise CorpusError(f"cannot write {out}: {error.strerror}") from error
    except BrokenProcessPool as error:
        raise CorpusError(
            "a process that screens files was killed, likely for memory; "
            "try fewer --jobs"
        ) from error
    return report


def _assemble(
    units: Sequence[Unit], out: Path, contamination: Contamination, processes: int
) -> Report:
    report, seen = Report(), Duplicates()
    for split in SPLITS:
        (out / f"{split}.jsonl").touch()
    with TemporaryDirectory(dir=out, prefix="spool-") as folder:
        spools = [Path(folder, str(i)) for i in range(len(units))]
        work = partial(screen, contamination=contamination)
        with ordered_map(processes, len(units)) as run:
            done = run(work, units, spools)
            for screened in tqdm(done, total=len(units), unit="source", disable=None):
                part = out / f"{screened.unit.split}.jsonl"
                _append(screened, part, seen, report.of(screened.unit))
    text = json.dumps(report.to_json(), indent=1) + "\n"
    (out / "report.json").write_text(text, encoding="utf-8")
    return report


def _append(
    screened: Screened, part: Path, seen: Duplicates, report: PackageReport
) -> None:
    """Copy what is new from a spool to its split, and delete the spool."""
    unit, tally = screened.unit, screened.tally
    with screened.spool.open("rb") as lines, part.open("ab") as stream:
        for kept, line in zip(screened.kept, lines, strict=True):
            name = f"{unit.package}/{kept.path}"
            repeat = seen.add(name, kept.digest, kept.signature)
            if repeat is not None:
                tally.drop(repeat.reason, kept.path, kept.size)
                continue
            stream.write(line)
            report.files += 1
            report.size += kept.size
    screened.spool.unlink()
    report.tally.add(tally)

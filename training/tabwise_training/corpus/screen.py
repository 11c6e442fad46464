"""Screening one source in one process: filters, cap, signatures; texts go to a file.

Only the survivors' names, digests and signatures return to the parent, so that memory
holds one source's texts a process and never the corpus.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import attrs

from tabwise_model.source_filters import decode, reason_to_drop
from tabwise_training.corpus.decontaminate import Contamination
from tabwise_training.corpus.duplicates import (
    Hashes,
    Signature,
    digest,
    signature,
    word_hashes,
)
from tabwise_training.corpus.licences import copyleft_folders
from tabwise_training.corpus.secrets import holds_secret
from tabwise_training.corpus.sources import (
    File,
    is_test,
    is_vendored,
    read_folder,
    read_wheel,
    wheel_paths,
)

NAMED = frozenset({"secret", "evaluation task", "licence file", "licence header"})


@attrs.frozen(kw_only=True)
class Unit:
    """One source to screen. Sizes are bytes of UTF-8.

    source: a wheel, or a folder whose files are `paths`. earlier: the wheel of an
    earlier release, of which no path may be taken. test_share: of what is kept.
    copyleft: folders (`a/b/`, "" for all) whose files are not to be taken.
    """

    package: str
    family: str
    split: str
    source: Path
    paths: list[str] | None = None
    earlier: Path | None = None
    cap_bytes: int | None = None
    test_share: float = 1.0
    copyleft: tuple[str, ...] = ()


class Source(NamedTuple):
    """A file that passed the filters of a single file. `size` is bytes of UTF-8."""

    path: str
    text: str
    size: int
    words: Hashes


@attrs.frozen(kw_only=True)
class Kept:
    """A file that passed every filter but the one for duplicates."""

    path: str
    size: int
    digest: str
    signature: Signature


@attrs.define(kw_only=True)
class Tally:
    """How much was found and dropped, in files and bytes, and which files by name for
    the reasons that someone will want to look into."""

    files: Counter[str] = attrs.field(factory=Counter)
    sizes: Counter[str] = attrs.field(factory=Counter)
    found_files: int = 0
    found_bytes: int = 0
    named: list[tuple[str, str]] = attrs.field(factory=list)

    def drop(self, reason: str, path: str, size: int) -> None:
        self.files[reason] += 1
        self.sizes[reason] += size
        if reason in NAMED:
            self.named.append((reason, path))

    def add(self, other: Tally, prefix: str = "") -> None:
        """Add another's counts; `prefix` goes before its named paths."""
        self.files.update(other.files)
        self.sizes.update(other.sizes)
        self.found_files += other.found_files
        self.found_bytes += other.found_bytes
        self.named += [(reason, prefix + path) for reason, path in other.named]


@attrs.frozen(kw_only=True)
class Screened:
    """The outcome for one unit: `spool` holds a line for each of `kept`, in order."""

    unit: Unit
    spool: Path
    kept: list[Kept]
    tally: Tally


def screen(unit: Unit, spool: Path, contamination: Contamination) -> Screened:
    """Filter a source's files and write those that stay to `spool`, a line each."""
    tally = Tally()
    kept = []
    chosen = _capped(unit, _filtered(unit, contamination, tally), tally)
    with spool.open("w", encoding="utf-8") as stream:
        for source in chosen:
            stream.write(_line(unit, source))
            kept.append(_kept(source))
    return Screened(unit=unit, spool=spool, kept=kept, tally=tally)


def _line(unit: Unit, source: Source) -> str:
    row = {
        "package": unit.package,
        "family": unit.family,
        "path": source.path,
        "text": source.text,
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


def _kept(source: Source) -> Kept:
    return Kept(
        path=source.path,
        size=source.size,
        digest=digest(source.text),
        signature=signature(source.words),
    )


def _filtered(
    unit: Unit, contamination: Contamination, tally: Tally
) -> Iterable[Source]:
    earlier = frozenset[str]() if unit.earlier is None else wheel_paths(unit.earlier)
    copyleft, files = _files(unit)
    for path, data in files:
        tally.found_files += 1
        tally.found_bytes += len(data)
        reason = _reason_of_path(path, copyleft, earlier)
        found = reason or _read(path, data, contamination)
        if isinstance(found, str):
            tally.drop(found, path, len(data))
        else:
            yield found


def _files(unit: Unit) -> tuple[tuple[str, ...], Iterable[File]]:
    """The folders not to be taken, and the source files."""
    if unit.paths is not None:
        return unit.copyleft, read_folder(unit.source, unit.paths)
    found = list(read_wheel(unit.source))
    files = [(path, data) for path, data in found if path.endswith(".py")]
    return copyleft_folders(found), files


def _reason_of_path(
    path: str, copyleft: tuple[str, ...], earlier: frozenset[str]
) -> str | None:
    if is_vendored(path):
        return "vendored"
    if path.startswith(copyleft):
        return "licence file"
    return "earlier release" if path in earlier else None


def _read(path: str, data: bytes, contamination: Contamination) -> Source | str:
    """A file ready for the corpus, or the reason why it is not."""
    text = decode(data)
    if text is None:
        return "undecodable"
    reason = reason_to_drop(text)
    if reason is not None:
        return reason
    words = word_hashes(text)
    if contamination.touches(words):
        return "evaluation task"
    if holds_secret(text):
        return "secret"
    return Source(path, text, len(text.encode()), words)


def _capped(unit: Unit, files: Iterable[Source], tally: Tally) -> list[Source]:
    """At most the unit's bytes, tests at most their share, drawn by the path's hash."""
    if unit.cap_bytes is None:
        return list(files)
    found = list(files)
    room = min(unit.cap_bytes, sum(source.size for source in found))
    test_room = room * unit.test_share
    kept = []
    for source in sorted(found, key=_draw):
        test = is_test(source.path)
        if test and source.size > test_room:
            tally.drop("too many tests", source.path, source.size)
        elif source.size > room:
            tally.drop("over the cap", source.path, source.size)
        else:
            kept.append(source)
            room -= source.size
            test_room -= source.size * test
    return sorted(kept, key=lambda source: source.path)


def _draw(source: Source) -> bytes:
    return hashlib.sha256(source.path.encode()).digest()

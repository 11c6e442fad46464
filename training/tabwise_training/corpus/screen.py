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

import attrs

from tabwise_training.corpus.decontaminate import Contamination
from tabwise_training.corpus.duplicates import Signature, digest, signature, word_hashes
from tabwise_training.corpus.filters import decode, reason_to_drop
from tabwise_training.corpus.secrets import holds_secret
from tabwise_training.corpus.sources import (
    File,
    is_test,
    is_vendored,
    read_folder,
    read_wheel,
)

MB = 1_000_000


@attrs.frozen(kw_only=True)
class Unit:
    """One source to screen. `paths` is None for a wheel; sizes are bytes of UTF-8."""

    package: str
    family: str
    split: str
    source: Path
    paths: list[str] | None = None
    cap_bytes: int | None = None
    test_share: float = 1.0


@attrs.frozen(kw_only=True)
class Kept:
    """A file that passed; `offset` is where its line begins in the spool file."""

    path: str
    offset: int
    size: int
    digest: str
    signature: Signature


@attrs.define(kw_only=True)
class Screened:
    """The outcome for one unit: what was kept, and (files, bytes) dropped by reason."""

    unit: Unit
    spool: Path
    kept: list[Kept] = attrs.field(factory=list)
    files: Counter[str] = attrs.field(factory=Counter)
    sizes: Counter[str] = attrs.field(factory=Counter)

    def drop(self, reason: str, size: int) -> None:
        self.files[reason] += 1
        self.sizes[reason] += size


def screen(unit: Unit, spool: Path, contamination: Contamination) -> Screened:
    """Filter a source's files and write those that stay to `spool`, a line each."""
    out = Screened(unit=unit, spool=spool)
    with spool.open("wb") as stream:
        for path, text in _capped(unit, _filtered(unit, out), out):
            words = word_hashes(text)
            if contamination.hits(words):
                out.drop("evaluation task", len(text))
                continue
            row = {
                "package": unit.package,
                "family": unit.family,
                "path": path,
                "text": text,
            }
            offset = stream.tell()
            stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            out.kept.append(
                Kept(
                    path=path,
                    offset=offset,
                    size=len(text.encode()),
                    digest=digest(text),
                    signature=signature(words),
                )
            )
    return out


def _files(unit: Unit) -> Iterable[File]:
    if unit.paths is None:
        return read_wheel(unit.source)
    return read_folder(unit.source, unit.paths)


def _filtered(unit: Unit, out: Screened) -> list[tuple[str, str]]:
    kept = []
    for path, data in _files(unit):
        out.drop("found", len(data))
        text = None if is_vendored(path) else decode(data)
        if text is None:
            reason: str | None = "vendored" if is_vendored(path) else "undecodable"
        else:
            reason = reason_to_drop(text) or ("secret" if holds_secret(text) else None)
        if text is None or reason is not None:
            out.drop(reason or "", len(data))
        else:
            kept.append((path, text))
    return kept


def _capped(
    unit: Unit, files: list[tuple[str, str]], out: Screened
) -> list[tuple[str, str]]:
    """At most the unit's bytes, tests at most their share, drawn by the path's hash."""
    total = sum(len(text.encode()) for _, text in files)
    cap = total if unit.cap_bytes is None else min(total, unit.cap_bytes)
    room, test_room = cap, int(cap * unit.test_share)
    kept = []
    for path, text in sorted(
        files, key=lambda f: hashlib.sha256(f[0].encode()).digest()
    ):
        size = len(text.encode())
        test = is_test(path)
        if test and size > test_room:
            out.drop("too many tests", size)
        elif size > room:
            out.drop("over the cap", size)
        else:
            kept.append((path, text))
            room -= size
            test_room -= size * test
    return sorted(kept)

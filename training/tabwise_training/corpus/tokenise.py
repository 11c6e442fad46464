"""From documents to token ids on disk, by many processes, in the documents' order.

SPLIT.bin          uint16 ids, each document's followed by END
SPLIT.docs.jsonl   {"package", "path", "tokens"} of each document; tokens include END
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import attrs
import numpy as np
from tqdm import tqdm

from tabwise_model.tokenizer import Tokenizer
from tabwise_training.corpus.documents import parse_document
from tabwise_training.corpus.workers import ordered_map

TASK_BYTES = 4_000_000  # of a split's file


class Stretch(NamedTuple):
    """Whole lines of a file, from byte `start` up to `end`."""

    file: Path
    start: int
    end: int


@attrs.define(kw_only=True)
class Counts:
    """What a split holds; bytes of UTF-8."""

    files: int = 0
    characters: int = 0
    bytes: int = 0
    tokens: int = 0

    def add(self, other: Counts) -> None:
        self.files += other.files
        self.characters += other.characters
        self.bytes += other.bytes
        self.tokens += other.tokens


def tokenise(
    file: Path, out: Path, split: str, tokenizer: Tokenizer, jobs: int
) -> Counts:
    """Write a split's two files; earlier ones stay until both are complete."""
    ids, names = out / f"{split}.bin", out / f"{split}.docs.jsonl"
    parts = [f.with_name(f"{f.name}.part") for f in (ids, names)]
    work = partial(_encode, tokenizer.dumps(), tokenizer.pattern)
    stretches = list(_stretches(file))
    counts = Counts()
    try:
        with (
            ordered_map(jobs, len(stretches)) as run,
            parts[0].open("wb") as id_stream,
            parts[1].open("w", encoding="utf-8") as name_stream,
        ):
            done = run(work, stretches)
            for encoded, lines, found in tqdm(
                done, total=len(stretches), desc=split, disable=None
            ):
                id_stream.write(encoded)
                name_stream.write(lines)
                counts.add(found)
        parts[0].replace(ids)
        parts[1].replace(names)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return counts


def _stretches(file: Path) -> Iterator[Stretch]:
    with file.open("rb") as stream:
        start = 0
        while stream.seek(TASK_BYTES, 1) and stream.readline():
            yield Stretch(file, start, stream.tell())
            start = stream.tell()
        size = file.stat().st_size
        if start < size:
            yield Stretch(file, start, size)


def _encode(
    vocabulary: str, pattern: str, stretch: Stretch
) -> tuple[bytes, str, Counts]:
    """(ids, lines of names, counts) of the documents in a stretch."""
    tokenizer = _tokenizer(vocabulary, pattern)
    ids: list[bytes] = []
    names: list[str] = []
    counts = Counts()
    for line in _lines(stretch):
        document = parse_document(line, f"a line of {stretch.file}")
        text: str = document["text"]
        encoded = np.array([*tokenizer.encode(text), tokenizer.end], np.uint16)
        ids.append(encoded.tobytes())
        name = {k: document[k] for k in ("package", "path")} | {"tokens": len(encoded)}
        names.append(json.dumps(name) + "\n")
        counts.add(
            Counts(
                files=1,
                characters=len(text),
                bytes=len(text.encode()),
                tokens=len(encoded),
            )
        )
    return b"".join(ids), "".join(names), counts


def _lines(stretch: Stretch) -> Iterator[bytes]:
    with stretch.file.open("rb") as stream:
        stream.seek(stretch.start)
        while stream.tell() < stretch.end:
            yield stream.readline()


@cache
def _tokenizer(vocabulary: str, pattern: str) -> Tokenizer:
    return Tokenizer.loads(vocabulary, pattern)

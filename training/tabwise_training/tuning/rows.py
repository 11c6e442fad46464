"""Endless rows of a training batch from a few documents, in this process."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tabwise_model.tokenizer import Tokenizer
from tabwise_training.data import DataConfig, Documents, Renderer, Rows
from tabwise_training.prepare import TOKENIZER
from tabwise_training.tuning.repository import Text

SHARD_TOKENS = 60_000  # rendered at a time; a second or so


def write_documents(folder: Path, tokenizer: Tokenizer, texts: Sequence[Text]) -> None:
    """Leave `folder` a prepared corpus with these texts as its train split."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER).write_text(tokenizer.dumps(), encoding="ascii")
    with (
        (folder / "train.bin").open("wb") as ids,
        (folder / "train.docs.jsonl").open("w", encoding="utf-8") as names,
    ):
        for path, text in texts:
            document = np.array([*tokenizer.encode(text), tokenizer.end], np.uint16)
            ids.write(document.tobytes())
            entry = {"package": "own", "path": path, "tokens": len(document)}
            names.write(json.dumps(entry) + "\n")


def endless_rows(
    folder: Path, tokenizer: Tokenizer, config: DataConfig, block: int
) -> Iterator[Rows]:
    """Rows of block + 1 ids of a prepared corpus's train split, epoch after epoch."""
    renderer = Renderer(Documents(folder, "train", tokenizer), tokenizer, config, block)
    for epoch in itertools.count():
        for shard in range(len(renderer.shards(epoch))):
            yield from renderer.render(epoch, shard)


def take(rows: Iterator[Rows], count: int) -> Rows:
    """The next `count` rows, (count, block + 1)."""
    taken: Rows = np.stack(list(itertools.islice(rows, count)))
    return taken


def plain_rows(
    tokenizer: Tokenizer, texts: Sequence[Text], block: int, most: int
) -> Rows:
    """At most `most` rows of texts end to end, evenly from all of them; the last row is
    padded with END, which does not count."""
    ids = [i for _, text in texts for i in (*tokenizer.encode(text), tokenizer.end)]
    width = block + 1
    ids += [tokenizer.end] * (-len(ids) % width)
    rows = np.array(ids, np.uint16).reshape(-1, width)
    picked: Rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    return picked

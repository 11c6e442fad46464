"""`tabwise prepare`: train or take a tokenizer, and turn a corpus into token ids."""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tabwise_model.tokenizer import Tokenizer
from tabwise_training.corpus.bpe import agree, train_bpe
from tabwise_training.corpus.manifest import SPLITS
from tabwise_training.errors import CorpusError, TrainingError

ERRORS = (TrainingError,)
SAMPLE_BYTES = 40_000_000
CHECK_BYTES = 4_000_000
BATCH = 200  # documents a task


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", type=Path, default=Path("data/corpus"))
    parser.add_argument("--out", type=Path, default=Path("data/prepared"))
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--tokenizer", help="a tokenizer.tiktoken file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)


def run(arguments: argparse.Namespace) -> int:
    corpus, out = arguments.corpus, arguments.out
    out.mkdir(parents=True, exist_ok=True)
    if arguments.tokenizer:
        tokenizer = Tokenizer.load(Path(arguments.tokenizer))
    else:
        tokenizer = make_tokenizer(corpus / "train.jsonl", arguments.vocab_size)
    (out / "tokenizer.tiktoken").write_text(tokenizer.dumps(), encoding="ascii")
    manifest = {"vocab_size": tokenizer.vocab_size, "splits": {}}
    for split in SPLITS:
        manifest["splits"][split] = tokenise(
            corpus / f"{split}.jsonl", out, split, tokenizer, arguments.jobs
        )
        print(split, manifest["splits"][split])
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return 0


def make_tokenizer(file: Path, vocab_size: int) -> Tokenizer:
    rng = random.Random(1)
    share = min(1.0, SAMPLE_BYTES / file.stat().st_size)
    texts = [d["text"] for d in documents(file) if rng.random() < share]
    tokenizer, trained = train_bpe(texts, vocab_size)
    checked = 0
    sample = list(islice(texts, max(1, len(texts) * CHECK_BYTES // SAMPLE_BYTES)))
    if not agree(tokenizer, trained, sample):
        raise CorpusError("the tokenizer's two forms disagree; this is a defect")
    return tokenizer


def documents(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def tokenise(
    file: Path, out: Path, split: str, tokenizer: Tokenizer, jobs: int
) -> dict[str, Any]:
    counts = {"files": 0, "characters": 0, "bytes": 0, "tokens": 0}
    part, docs = out / f"{split}.bin.part", out / f"{split}.docs.jsonl.part"
    work = partial(encode_batch, tokenizer.dumps())
    with (
        ProcessPoolExecutor(jobs, get_context("spawn")) as pool,
        part.open("wb") as stream,
        docs.open("w", encoding="utf-8") as listing,
    ):
        for rows, ids in tqdm(pool.map(work, batches(file))):
            stream.write(ids)
            for row in rows:
                counts["files"] += 1
                for key in ("characters", "bytes", "tokens"):
                    counts[key] += row.pop(key) if key != "tokens" else row[key]
                listing.write(json.dumps(row) + "\n")
    part.replace(out / f"{split}.bin")
    docs.replace(out / f"{split}.docs.jsonl")
    return counts


def batches(file: Path) -> Iterator[list[str]]:
    with file.open(encoding="utf-8") as lines:
        while batch := list(islice(lines, BATCH)):
            yield batch


def encode_batch(dumped: str, lines: list[str]) -> tuple[list[dict[str, Any]], bytes]:
    tokenizer = Tokenizer.loads(dumped)
    rows, parts = [], []
    for line in lines:
        document = json.loads(line)
        ids = [*tokenizer.encode(document["text"]), tokenizer.end]
        parts.append(np.array(ids, np.uint16).tobytes())
        rows.append(
            {
                "package": document["package"],
                "path": document["path"],
                "tokens": len(ids),
                "characters": len(document["text"]),
                "bytes": len(document["text"].encode()),
            }
        )
    return rows, b"".join(parts)

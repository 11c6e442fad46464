"""Reading a corpus: the JSON lines of its splits, or a bare folder of code."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabwise_model.source_filters import MIN_CHARACTERS, decode
from tabwise_training.corpus.manifest import SPLITS
from tabwise_training.corpus.sources import list_folder, read_folder
from tabwise_training.errors import CorpusError

Document = dict[str, Any]  # package, family, path, text


def split_files(corpus: Path) -> dict[str, Path]:
    """The files of a collected corpus, by split; empty ones are left out.

    Raises CorpusError if it is not one, or has nothing to train on.
    """
    files = {split: corpus / f"{split}.jsonl" for split in SPLITS}
    found = {s: f for s, f in files.items() if f.is_file() and f.stat().st_size}
    if "train" not in found:
        raise CorpusError(
            f"{corpus} is not a corpus: {files['train'].name} is missing or empty; "
            "run `tabwise collect` first, or give --split offset for a bare folder"
        )
    return found


def read_documents(file: Path) -> Iterator[Document]:
    """Raises CorpusError naming a line that is not a document."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            yield parse_document(line, f"{file}, line {number}")


def parse_document(line: str | bytes, where: str) -> Document:
    try:
        document: Document = json.loads(line)
        document["text"].encode()  # of a lone surrogate there is no UTF-8
        if all(isinstance(document[k], str) for k in ("package", "path", "text")):
            return document
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # said below, together with a value of another type
    raise CorpusError(f"{where} is not a document; run `tabwise collect` again")


def sample_texts(file: Path, size: int, seed: int = 1) -> list[str]:
    """Texts of documents drawn at random, about `size` bytes; always the same ones."""
    rng = random.Random(seed)
    share = size / max(size, file.stat().st_size)
    return [d["text"] for d in read_documents(file) if rng.random() < share]


def write_offset_split(corpus: Path, out: Path, share: float) -> dict[str, Path]:
    """The seed's split: all documents end to end, cut at `share` of the characters.

    `corpus` is a collected corpus or a folder of code, of which files of 100 characters
    or fewer and those that are not UTF-8 are skipped. The document at the cut is in
    both. Raises CorpusError if there is no text.
    """
    documents = list(_all_documents(corpus))
    left = int(share * sum(len(d["text"]) for d in documents))
    if not documents:
        raise CorpusError(
            f"{corpus} holds no *.py over {MIN_CHARACTERS - 1} characters"
        )
    files = {"train": out / "train.jsonl", "val": out / "val.jsonl"}
    with files["train"].open("w") as train, files["val"].open("w") as val:
        for document in documents:
            text = document["text"]
            for stream, part in ((train, text[:left]), (val, text[left:])):
                if part:
                    stream.write(json.dumps(document | {"text": part}) + "\n")
            left = max(0, left - len(text))
    return {split: file for split, file in files.items() if file.stat().st_size}


def _all_documents(corpus: Path) -> Iterator[Document]:
    if (corpus / "train.jsonl").is_file():
        for file in split_files(corpus).values():
            yield from read_documents(file)
        return
    paths = [path for path in list_folder(corpus) if path.endswith(".py")]
    name = corpus.resolve().name
    for path, data in read_folder(corpus, paths):
        text = decode(data)
        if text is not None and len(text) >= MIN_CHARACTERS:
            yield {"package": name, "family": name, "path": path, "text": text}

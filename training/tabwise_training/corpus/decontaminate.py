"""Keeping evaluation tasks out of the corpus: no file may share a long run of words."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tabwise_training.corpus.duplicates import (
    Hashes,
    split_words,
    windows,
    word_hashes,
)
from tabwise_training.errors import CorpusError

WINDOW = 12  # words
MIN_NAMES = 7  # different words but numbers in a window; idioms have fewer
_BITS = 20
_SHIFT = np.uint64(64 - _BITS)


class Contamination:
    """The word windows of evaluation tasks."""

    def __init__(self, texts: Iterable[str]) -> None:
        parts = [np.empty(0, np.uint64), *map(_telling_windows, texts)]
        self._known = np.unique(np.concatenate(parts))
        # Most windows are ruled out by their top bits alone, without a search.
        self._maybe = np.zeros(1 << _BITS, np.bool_)
        self._maybe[self._known >> _SHIFT] = True

    def __len__(self) -> int:
        return len(self._known)

    def touches(self, words: Hashes) -> bool:
        """Whether a file, as `word_hashes`, has a window of some task."""
        if len(self) == 0 or len(words) < WINDOW:
            return False
        found = windows(words, WINDOW)
        found = found[self._maybe[found >> _SHIFT]]
        at = np.searchsorted(self._known, found).clip(max=len(self) - 1)
        return bool((self._known[at] == found).any())


def _telling_windows(text: str) -> Hashes:
    words = split_words(text)
    if len(words) < WINDOW:
        return np.empty(0, np.uint64)
    telling = [
        len({w for w in words[i : i + WINDOW] if not w[:1].isdigit()}) >= MIN_NAMES
        for i in range(len(words) - WINDOW + 1)
    ]
    found: Hashes = windows(word_hashes(text), WINDOW)[np.array(telling)]
    return found


def read_tasks(files: Iterable[Path]) -> Iterator[str]:
    """The text of each task of HumanEval-Infilling files (JSON lines, gzipped or not).

    Raises CorpusError naming the file that cannot be read.
    """
    for file in files:
        try:
            yield from _read_tasks(file)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"{file} is not a file of evaluation tasks (JSON lines with prompt, "
                f"canonical_solution, suffix, test): {error!r}"
            ) from error


def _read_tasks(file: Path) -> Iterator[str]:
    data = file.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    for line in data.decode("utf-8").splitlines():
        task = json.loads(line)
        yield task["prompt"] + task["canonical_solution"] + task["suffix"]
        yield task["test"]

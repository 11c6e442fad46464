"""Keeping evaluation tasks out of the corpus: no file may share a long run of words."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tabwise_training.corpus.duplicates import Hashes, windows, word_hashes
from tabwise_training.errors import CorpusError

WINDOW = 12  # words


class Contamination:
    """The word windows of evaluation tasks."""

    def __init__(self, texts: Iterable[str]) -> None:
        parts = [_full_windows(word_hashes(text)) for text in texts]
        self._known = np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))

    def __len__(self) -> int:
        return len(self._known)

    def hits(self, words: Hashes) -> int:
        """How many of a file's windows stand in the tasks."""
        found = _full_windows(words)
        at = np.searchsorted(self._known, found).clip(max=max(0, len(self) - 1))
        return int((self._known[at] == found).sum()) if len(self) else 0


def _full_windows(words: Hashes) -> Hashes:
    return windows(words, WINDOW) if len(words) >= WINDOW else words[:0]


def read_tasks(files: Iterable[Path]) -> Iterator[str]:
    """The text of each task of HumanEval-Infilling files (JSON lines, gzipped or not)."""
    for file in files:
        try:
            with (
                gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines
            ):
                for line in lines:
                    task = json.loads(line)
                    yield task["prompt"] + task["canonical_solution"] + task["suffix"]
                    yield task["test"]
        except (OSError, ValueError, KeyError) as error:
            raise CorpusError(f"cannot read tasks of {file}: {error!r}") from error

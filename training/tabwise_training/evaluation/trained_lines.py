"""Which lines of held-out files stand in the training split as well."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tabwise_training.corpus.documents import read_documents
from tabwise_training.evaluation.positions import Position


def whole_line(position: Position) -> str:
    """The cursor's line, stripped."""
    return (position.prefix.rpartition("\n")[2] + position.truth).strip()


def lines_in(file: Path, wanted: Iterable[str]) -> frozenset[str]:
    """Those of the wanted (stripped) lines that a split's documents have.

    Reads the file once, and holds only what is wanted. Raises CorpusError.
    """
    left = set(wanted)
    found: set[str] = set()
    for document in read_documents(file):
        found |= left.intersection(map(str.strip, document["text"].split("\n")))
    return frozenset(found)

"""The files of a repository, to copy from the others while one is written."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tabwise_model.copying import Remembered
from tabwise_model.occurrences import LONGEST, NOWHERE, Span
from tabwise_model.tokenizer import Ids

MOST_REMEMBERED_TOKENS = 2_000_000  # of one repository, eight bytes each


@attrs.frozen(eq=False)
class Repository:
    """places: of each file's tokens, in what is remembered."""

    remembered: Remembered
    places: Mapping[str, Span]

    @classmethod
    def of(cls, files: Mapping[str, Ids]) -> Repository:
        """files: each one's tokens (N,) by its path."""
        places, start = {}, LONGEST
        for path, ids in files.items():
            places[path] = start, start + len(ids)
            start += len(ids) + 1  # for the gap
        return cls(Remembered.of(files.values()), places)

    def ids_of(self, path: str) -> Ids | None:
        """A file's tokens (N,); None if it is not in it."""
        if path not in self.places:
            return None
        start, end = self.places[path]
        return self.remembered.ids[start:end]

    def without(self, path: str | None) -> Remembered:
        """What is remembered of the others: of the file at `path`, an older version
        would agree with all that stands before its cursor."""
        skipped = self.places.get(path, NOWHERE) if path else NOWHERE
        return attrs.evolve(self.remembered, skipped=skipped)

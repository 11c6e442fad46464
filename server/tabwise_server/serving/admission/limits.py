"""How many requests may be in the house; a place is reserved before any work."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from tabwise_server.errors import Overloaded, TooMany


class Draining(Overloaded):
    """The server finishes what it has and takes nothing new."""

    code = "draining"


class Places:
    """A bounded number of requests, waiting or running, for all and for each caller."""

    def __init__(self, count: int, each: int | None = None) -> None:
        """each: of one caller; None for no such limit."""
        self._count = count
        self._each = each
        self._held: Counter[str] = Counter()
        self.taken = 0
        self.draining = False

    @contextlib.contextmanager
    def reserve(self, caller: str) -> Iterator[None]:
        """Hold a place for the block. Raises TooMany or Overloaded at once if none is
        free."""
        if self._each is not None and self._held[caller] >= self._each:
            raise TooMany(
                f"this key has {self._each} requests in the house; wait for an answer"
            )
        if self.draining:
            raise Draining("the server is shutting down; try another")
        if self.taken >= self._count:
            raise Overloaded(
                f"all {self._count} places are taken; try again in a second"
            )
        self.taken += 1
        self._held[caller] += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]

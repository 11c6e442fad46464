"""How many requests may be in the house; a place is reserved before any work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tabwise_server.errors import Overloaded


class Draining(Overloaded):
    """The server finishes what it has and takes nothing new."""

    code = "draining"


class Places:
    """A bounded number of requests, waiting or running."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.taken = 0
        self.draining = False

    @contextlib.contextmanager
    def reserve(self) -> Iterator[None]:
        """Hold a place for the block. Raises Overloaded at once if none is free."""
        if self.draining:
            raise Draining("the server is shutting down; try another")
        if self.taken >= self._count:
            raise Overloaded(
                f"all {self._count} places are taken; try again in a second"
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

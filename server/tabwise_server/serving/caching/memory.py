"""Answers that this process gave lately."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from tabwise_model.request import Generation, Line

# About what Python's objects take: an entry, a token with its log-probability.
ENTRY_BYTES, TOKEN_BYTES = 1_000, 80


class MemoryCache:
    """At most `max_bytes` of answers, each for `ttl_s`; what was not asked for the
    longest goes first."""

    def __init__(
        self,
        max_bytes: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes, self._ttl_s, self._clock = max_bytes, ttl_s, clock
        self._kept: OrderedDict[bytes, tuple[float, Generation]] = OrderedDict()
        self.bytes = 0

    def get(self, key: bytes) -> Generation | None:
        found = self._kept.get(key)
        if found is None:
            return None
        until, result = found
        if self._clock() >= until:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return result

    def put(self, key: bytes, result: Generation) -> None:
        self._drop(key)
        self._kept[key] = (self._clock() + self._ttl_s, result)
        self.bytes += size_of(result)
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self.bytes -= size_of(found[1])


def size_of(result: Generation) -> int:
    """About how many bytes an answer takes in memory."""
    lines: list[Generation | Line] = [result, *result.alternatives]
    return sum(
        ENTRY_BYTES + len(line.text) + TOKEN_BYTES * len(line.tokens) for line in lines
    )

"""How much may be in the house; a place is reserved before any work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import attrs

from tabwise_server.errors import Overloaded, TooMany

SHARE = 3  # where there are others: of a caller's places, to each that is free
# There is room for one fewer for each that was left unanswered after so long, for so
# much more for each answer: so of those let in, about one in nine is computed for
# nobody at the most. Who leaves sooner has changed their mind.
LATE_S, ROOM_EACH = 0.1, 1 / 8


class Draining(Overloaded):
    """The server finishes what it has and takes nothing new."""

    code = "draining"


@attrs.frozen(kw_only=True)
class Limits:
    """requests: waiting or running, at most; least: the same, however late answers are;
    tokens: that their prompts may have, together. each: requests of one caller;
    each_minute: that one caller may begin in a minute. None: no such limit."""

    requests: int
    least: int
    tokens: int
    each: int | None = None
    each_minute: int | None = None


@attrs.define
class Place:
    """What one request holds until it is released. since: by the places' clock."""

    places: Places
    caller: str
    since: float
    requests: int = 0
    tokens: int = 0

    def widen(self, requests: int, tokens: int) -> None:
        """Hold more. Raises as `Places.reserve` does, and then holds what it held."""
        self.places.take(self.caller, requests, tokens)
        self.requests += requests
        self.tokens += tokens

    def release(self) -> None:
        self.places.give_back(self)

    def answered(self) -> None:
        """Whoever waits has what they asked for."""
        self.places.make_room(self.requests * ROOM_EACH)

    def unanswered(self) -> None:
        """They have left, or the deadline has passed."""
        if self.places.clock() - self.since > LATE_S:
            self.places.make_room(-self.requests)


class Places:
    """A bounded number of requests and prompt tokens, for all and for each caller.

    room: requests that there are places for now. Who types on leaves a slow server
    before its answer, so that one that lets everybody in computes for nobody; with
    room for fewer it answers those in time.
    """

    def __init__(
        self, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self.clock = clock
        self._room = float(limits.requests)
        self.taken = 0
        self.tokens = 0
        self.draining = False
        # whether there may be more than one caller, for whom some must be left
        self.crowded: Callable[[], bool] = lambda: False
        self._held: Counter[str] = Counter()
        self._rates = Rates(limits.each_minute, clock) if limits.each_minute else None

    def reserve(self, caller: str, tokens: int) -> Place:
        """A place for one request. Raises TooMany for what is the caller's own limit,
        Draining or Overloaded for what is ours."""
        if self.draining:
            raise Draining("the server is shutting down; try another")
        place = Place(self, caller, self.clock())
        place.widen(1, tokens)
        if self._rates is not None:
            try:
                self._rates.spend(caller)
            except TooMany:
                place.release()
                raise
        return place

    @property
    def room(self) -> int:
        return int(self._room)

    @property
    def full(self) -> bool:
        return self.taken >= self.room

    def make_room(self, more: float) -> None:
        """Have room for so many more, or fewer, within bounds."""
        room = max(self._room + more, self.limits.least)
        self._room = min(room, self.limits.requests)

    def take(self, caller: str, requests: int, tokens: int) -> None:
        wanted = self._held[caller] + requests
        self._check_caller(wanted)
        self._check_house(wanted, self.taken + requests, self.tokens + tokens)
        self.taken += requests
        self.tokens += tokens
        self._held[caller] += requests

    def give_back(self, place: Place) -> None:
        self.taken -= place.requests
        self.tokens -= place.tokens
        self._held[place.caller] -= place.requests
        if not self._held[place.caller]:
            del self._held[place.caller]

    def _check_caller(self, wanted: int) -> None:
        """Whether one caller may hold so many, by its own limit."""
        most = self.limits.each
        if most is not None and wanted > most:
            raise TooMany(
                f"this key has {wanted - 1} requests in the house; wait for an answer"
            )

    def _check_house(self, wanted: int, requests: int, tokens: int) -> None:
        """Whether there is room. Where there are several callers, the fewer places are
        free the fewer one of them may hold, so that there is always one for another."""
        free = self.room - self.taken
        if requests > self.room:
            raise Overloaded(f"all {self.room} places are taken; try again in a second")
        if self.crowded() and wanted > max(1, SHARE * free):
            raise Overloaded(
                "the last places are for other keys; try again in a second"
            )
        # one request always fits, however long its prompt
        if tokens > self.limits.tokens and self.taken:
            raise Overloaded("too many prompt tokens wait; try again in a second")


class Rates:
    """Requests that each caller may begin: so many in a minute, evenly refilled."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._free: dict[str, tuple[float, float]] = {}  # caller: (how many, when)

    def spend(self, caller: str) -> None:
        """Raises TooMany with the time until there is one more."""
        now = self._clock()
        free, then = self._free.get(caller, (float(self._per_minute), now))
        free = min(self._per_minute, free + (now - then) * self._per_minute / 60)
        if free < 1:
            self._free[caller] = (free, now)
            raise TooMany(
                f"this key may ask {self._per_minute} times a minute",
                retry_after_s=(1 - free) * 60 / self._per_minute,
            )
        self._free[caller] = (free - 1, now)

"""Several backends as one: affinity, health, hedging and failover within a deadline.

A session goes to the member whose name and its own hash lowest together (rendezvous
hashing): its prefix cache stays in one place, and only a lost member's sessions move.
Nothing is shown before an answer is whole, so a request may always be asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from tabwise_server.backends.protocol import (
    Backend,
    ConnectionLost,
    Health,
    Status,
    StatusListener,
    ignore_status,
)
from tabwise_server.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    Overloaded,
    TabwiseError,
    Unauthorized,
)
from tabwise_server.wire import CompletionRequest, CompletionResponse

logger = logging.getLogger(__name__)

FAILURES_TO_OPEN = 3  # in a row, of those that prove nothing alone
FIRST_REST_S, LONGEST_REST_S = 0.5, 30.0
HEDGE_SHARE = 0.1  # of all requests may be asked twice for being slow
HEDGE_BURST = 10.0
HEDGE_FLOOR_S, HEDGE_UNKNOWN_S = 0.05, 0.5
LATENCIES = 100  # the latest, which the 95th percentile is of


@attrs.define(eq=False)
class Member:
    """One backend and its circuit breaker. While it is `out`, only the health check
    asks it, unless all are out."""

    name: str
    backend: Backend
    out: bool = False
    failures: int = 0
    rest_s: float = FIRST_REST_S

    def succeeded(self) -> None:
        self.out, self.failures, self.rest_s = False, 0, FIRST_REST_S

    def failed(self, *, surely: bool) -> None:
        """surely: the process is gone or refuses; else it was only slow or full."""
        self.failures += 1
        if surely or self.failures >= FAILURES_TO_OPEN:
            self.out = True


class Hedging:
    """When to ask a second member for a slow answer, and how often that may be."""

    def __init__(self, fixed_ms: float | None) -> None:
        self._fixed_s = None if fixed_ms is None else fixed_ms / 1000
        self._budget = HEDGE_BURST
        self._latencies: deque[float] = deque(maxlen=LATENCIES)

    @property
    def delay_s(self) -> float:
        if self._fixed_s is not None:
            return self._fixed_s
        if len(self._latencies) < LATENCIES // 5:
            return HEDGE_UNKNOWN_S
        ordered = sorted(self._latencies)
        return max(HEDGE_FLOOR_S, ordered[math.ceil(0.95 * len(ordered)) - 1])

    def observe(self, latency_s: float) -> None:
        self._latencies.append(latency_s)
        self._budget = min(self._budget + HEDGE_SHARE, HEDGE_BURST)

    def spend(self) -> bool:
        """Whether one more request may be asked twice."""
        if self._budget < 1:
            return False
        self._budget -= 1
        return True


class PoolBackend:
    """Completions from whichever member can give them in time."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        hedge_ms: float | None = None,
        on_status: StatusListener = ignore_status,
    ) -> None:
        """backends: by address, at least one."""
        self.members = [Member(name, backend) for name, backend in backends.items()]
        self._hedging = Hedging(hedge_ms)
        self._on_status = on_status
        self._turn = itertools.count()
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look at every member; none being well shows as a status."""
        await asyncio.gather(*map(self._look_at, self.members))
        if any(not member.out for member in self.members):
            self._on_status(Status("ready"))
        self._watch()

    async def complete(self, request: CompletionRequest) -> CompletionResponse:
        """As Backend.complete. Raises what the last member said if none answers."""
        left_ms = request.deadline_ms
        attempts = _Attempts(request, self.order(request.session), self._hedging)
        try:
            async with asyncio.timeout(None if left_ms is None else left_ms / 1000):
                response = await attempts.first_answer()
        except TimeoutError as error:
            attempts.ran_out()
            raise DeadlineExceeded("no backend answered in time") from error
        except (BackendUnavailable, Unauthorized) as error:
            self._on_status(Status("offline", str(error)))
            raise
        finally:
            self._watch()
        self._on_status(Status("ready"))
        return response

    async def health(self) -> Health:
        """That of the first ready member; raises the last one's error if none is."""
        error: TabwiseError = BackendUnavailable("no backend is ready")
        for member in self.members:
            try:
                health = await member.backend.health()
            except TabwiseError as failure:
                error = failure
                continue
            if health.ready:
                return health
        raise error

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        for member in self.members:
            await member.backend.close()

    def order(self, session: str | None) -> list[Member]:
        """Members as a session should try them: those that are out come last."""
        key = str(next(self._turn)) if session is None else session

        def rank(member: Member) -> tuple[bool, bytes]:
            name = f"{member.name}\0{key}".encode("utf-8", "replace")
            return member.out, hashlib.blake2b(name, digest_size=8).digest()

        return sorted(self.members, key=rank)

    def _watch(self) -> None:
        """Have the health of those that are out looked at until none is."""
        idle = self._watching is None or self._watching.done()
        if idle and any(member.out for member in self.members):
            self._watching = asyncio.create_task(self._watch_over())

    async def _watch_over(self) -> None:
        out = [member for member in self.members if member.out]
        while out:
            await asyncio.sleep(min(member.rest_s for member in out))
            await asyncio.gather(*map(self._look_at, out))
            if any(not member.out for member in out):
                self._on_status(Status("ready"))
            out = [member for member in self.members if member.out]

    async def _look_at(self, member: Member) -> None:
        """Take a member in or out by what its health says."""
        try:
            health = await member.backend.health()
        except TabwiseError as error:
            problem: str | None = str(error)
        else:
            problem = None if health.ready else f"{member.name}: {health.status}"
        if problem is None:
            member.succeeded()
            return
        member.failed(surely=True)
        member.rest_s = min(member.rest_s * 2, LONGEST_REST_S)
        if all(one.out for one in self.members):
            self._on_status(Status("offline", problem))


class _Attempts:
    """One request, asked of one member after another until one answers."""

    def __init__(
        self, request: CompletionRequest, members: Sequence[Member], hedging: Hedging
    ) -> None:
        self._request = request
        self._hedging = hedging
        self._first = members[0]
        # a connection kept alive may have died unseen: the first may be asked again
        self._rest: Iterator[Member] = iter([*members, members[0]])
        self._left = len(members)
        self._began = time.monotonic()
        self._running: dict[asyncio.Task[CompletionResponse], Member] = {}

    async def first_answer(self) -> CompletionResponse:
        """The first whole answer; all others' work is cancelled."""
        failure: TabwiseError = BackendUnavailable("no backend is set")
        delay_s: float | None = self._hedging.delay_s
        try:
            self._ask_next()
            while self._running:
                done, _ = await asyncio.wait(
                    self._running, timeout=delay_s, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    delay_s = None  # one hedge is enough
                    if self._left and self._hedging.spend():
                        self._ask_next()
                for task in done:
                    member = self._running.pop(task)
                    error = task.exception()
                    if error is None:
                        self._won(member)
                        return task.result()
                    failure = self._lost(member, error)
                if not self._running and self._may_go_on(failure):
                    self._ask_next()
            raise failure
        finally:
            await _cancel(self._running)

    def _ask_next(self) -> None:
        """Ask the next member, with the time that is left."""
        member = next(self._rest)
        self._left -= 1
        request = self._request
        if request.deadline_ms is not None:
            spent_ms = (time.monotonic() - self._began) * 1000
            left_ms = max(request.deadline_ms - spent_ms, 1.0)
            request = attrs.evolve(request, deadline_ms=left_ms)
        task = asyncio.create_task(member.backend.complete(request))
        self._running[task] = member

    def _may_go_on(self, failure: TabwiseError) -> bool:
        return self._left > 0 or (
            self._left == 0 and isinstance(failure, ConnectionLost)
        )

    def ran_out(self) -> None:
        """The deadline passed with these still being asked."""
        for member in self._running.values():
            member.failed(surely=False)

    def _won(self, member: Member) -> None:
        member.succeeded()
        self._hedging.observe(time.monotonic() - self._began)
        if self._first in self._running.values():  # it had longer, and is slower
            self._first.failed(surely=False)

    def _lost(self, member: Member, error: BaseException) -> TabwiseError:
        """What another member may mend; anything else is raised."""
        if isinstance(error, BackendUnavailable):
            logger.info("%s: %s", member.name, error)
            member.failed(surely=isinstance(error, ConnectionLost))
            return error
        if isinstance(error, Overloaded):
            return error
        if isinstance(error, DeadlineExceeded):
            member.failed(surely=False)
        raise error


async def _cancel(tasks: Iterable[asyncio.Task[CompletionResponse]]) -> None:
    """Cancel and wait, so that connections are closed and no error goes unseen."""
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

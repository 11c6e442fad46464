"""Several engines, each in a process of its own, behind one door.

Python runs on one processor at a time in a process: with the engine elsewhere, the
event loop need not wait for it, and several engines use several processors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Coroutine
from typing import Any

from tabwise_model.checkpoint import Checkpoint
from tabwise_server.errors import EngineFailed, Overloaded, TabwiseError
from tabwise_server.serving.engine.bridge import GONE, NotBegun
from tabwise_server.serving.engine.engines import Figures
from tabwise_server.serving.engine.keeper import (
    LOOKS,
    MOST_HELD_S,
    MOST_RESTARTS,
    RETIRE_S,
    START_S,
    WITHIN_S,
)
from tabwise_server.serving.engine.process import EngineProcess
from tabwise_server.serving.question import Asker, Question

logger = logging.getLogger(__name__)

KEPT_DOCUMENTS = 8_192  # whose engine is known
BEGINNING_CHARS = 200  # by which a document without a name is known
FIGURES_S = 1.0  # for a process to tell how it does
RESTART_S = 0.7  # what it takes to replace one
# Silence that is no trouble, or no hang, however short a step may be: on a crowded
# machine a process of low priority may be late.
LATE_S, HUNG_S = 1.0, 5.0
LOOK_S = 0.05  # between two looks whether one in trouble has recovered


class Crew:
    """See `Engines`. count: how many; read: the checkpoint as it lies now; make: a
    process for one, which may begin. stall_s: one that is silent for longer hangs, or
    for HUNG_S, if that is longer."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        count: int,
        read: Callable[[], Checkpoint],
        make: Callable[[Checkpoint], EngineProcess],
        stall_s: float,
    ) -> None:
        self.given_up = asyncio.Event()
        self.processes = [make(checkpoint) for _ in range(count)]
        self._checkpoint, self._count = checkpoint, count
        self._read, self._make = read, make
        self._late_s, self._hung_s = max(stall_s / 2, LATE_S), max(stall_s, HUNG_S)
        self._homes = Homes(count)
        self._replaced = asyncio.Event()  # set when a process is, or none ever will be
        self._closed = False
        self._past = Figures()
        self._leaving: list[EngineProcess] = []  # replaced, but not yet done
        self._restarts: list[deque[float]] = [
            deque(maxlen=MOST_RESTARTS) for _ in range(count)
        ]
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def model(self) -> EngineProcess:
        return self.processes[0]

    async def start(self) -> None:
        await _start(self.processes)
        for place in range(self._count):
            self._spawn(self._watch(place))

    async def stop(self) -> None:
        self._close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(one.stop() for one in self._all))

    def close(self, kind: type[TabwiseError], said: str) -> None:
        self._close()
        for process in self._all:
            process.abandon(kind, said)

    async def model_for(self, question: Question, asker: Asker) -> EngineProcess:
        """The process that has the document's keys and values, or while that is in
        trouble the next that is not. Where all are, a request waits for one of them,
        if that is soon over."""
        deadline = asker.deadline
        until = min(time.monotonic() + MOST_HELD_S, deadline or math.inf)
        home = self._homes.of(asker.owner, asker.session or beginning(question))
        while True:
            for n in range(self._count):
                process = self.processes[(home + n) % self._count]
                if self._fit(process):
                    return process
            if self._closed or time.monotonic() + self._wait_s > until:
                self.check()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._replaced.wait()

    def _fit(self, process: EngineProcess) -> bool:
        return process.well and process.silent_s < self._late_s

    @property
    def _wait_s(self) -> float:
        """What it takes until one of them answers, at the most."""
        if self.given_up.is_set():
            return math.inf
        waits = [
            self._hung_s - one.silent_s if one.alive else 0.0 for one in self.processes
        ]
        return RESTART_S + max(0.0, min(waits))

    def check(self) -> None:
        if not any(process.alive for process in self.processes):
            raise NotBegun(GONE)
        if not any(map(self._fit, self.processes)):
            raise Overloaded("no engine's process has answered for a while")

    def check_alive(self) -> None:
        if not any(process.alive for process in self.processes):
            raise EngineFailed("no engine's process lives")

    async def figures(self) -> Figures:
        """Of all engines since the start."""
        await asyncio.gather(*(one.look(FIGURES_S) for one in self._all))
        total = self._past
        for process in self._all:
            total = total.plus(process.figures)
        return total

    async def reload(self) -> bool:
        """All processes give way to new ones at once, when these have answered."""
        async with self._changing:
            checkpoint = await asyncio.to_thread(self._read)
            if checkpoint.digest == self._checkpoint.digest:
                return False
            fresh = await self._fresh(checkpoint, self._count)
            old, self.processes = self.processes, fresh
            self._checkpoint = checkpoint
            for process in old:
                self._leaving.append(process)
                self._spawn(self._retire(process))
            return True

    @property
    def _all(self) -> list[EngineProcess]:
        return [*self.processes, *self._leaving]

    async def _fresh(self, checkpoint: Checkpoint, count: int) -> list[EngineProcess]:
        fresh = [self._make(checkpoint) for _ in range(count)]
        await _start(fresh)
        return fresh

    async def _watch(self, place: int) -> None:
        """Look after the process in a place until cancelled, or until restarting does
        not help."""
        while not self._closed:
            process = self.processes[place]
            if await process.ends(self._late_s / LOOKS):
                await self._restart(place, process, "ended")
            elif not await process.look(self._hung_s):
                reason = "hung" if process.alive else "ended"
                await self._restart(place, process, reason)

    async def _restart(self, place: int, broken: EngineProcess, reason: str) -> None:
        """Answer what is in flight, and put a fresh process in its place. The
        checkpoint is the one in memory: what lies on the disk may be another."""
        broken.abandon()
        async with self._changing:
            if self.processes[place] is not broken:
                return  # a reload has replaced it
            logger.error("an engine's process has %s; starting another", reason)
            await broken.kill()
            self._past = self._past.plus(Figures(restarts=Counter([reason])))
            if self._too_often(place):
                logger.critical("%d restarts did not help; giving up", MOST_RESTARTS)
                self._give_up()
                return
            try:
                (fresh,) = await self._fresh(self._checkpoint, 1)
            except Exception:
                logger.exception("the engine's process could not be started again")
                self._give_up()
                return
            self.processes[place] = fresh
            self._past = self._past.plus(broken.figures.of_the_past)
            self._replaced.set()
            self._replaced = asyncio.Event()
            logger.warning("the engine's process is back")

    def _too_often(self, place: int) -> bool:
        now, recent = time.monotonic(), self._restarts[place]
        full = len(recent) == MOST_RESTARTS
        too_often = full and now - recent[0] < WITHIN_S
        recent.append(now)
        return too_often

    def _give_up(self) -> None:
        self.given_up.set()
        self._closed = True
        self._replaced.set()

    def _close(self) -> None:
        self._closed = True
        self._replaced.set()
        for task in self._tasks:
            task.cancel()

    async def _retire(self, old: EngineProcess) -> None:
        """Stop a process once it has answered what it began."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETIRE_S):
                while old.in_flight:  # noqa: ASYNC110 - rare, and soon over
                    await asyncio.sleep(0.05)
        await old.look(FIGURES_S)
        await old.stop()
        self._leaving.remove(old)
        self._past = self._past.plus(old.figures.of_the_past)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside, until `stop`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _start(processes: list[EngineProcess]) -> None:
    """Return when each has answered. Raises what kept one from it; then none is
    left."""
    try:
        async with asyncio.timeout(START_S), asyncio.TaskGroup() as starting:
            for process in processes:
                starting.create_task(process.start())
    except BaseException as error:
        await asyncio.gather(*(one.stop() for one in processes))
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0] from None
        raise


class Homes:
    """In which engine a document's keys and values are: in the one that had fewest
    when it was first asked about. The longest not asked about are forgotten."""

    def __init__(self, count: int, most: int = KEPT_DOCUMENTS) -> None:
        self._homes: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._documents = [0] * count
        self._most = most

    def of(self, owner: str, document: str) -> int:
        """Which engine, 0..count-1."""
        name = owner, document
        home = self._homes.get(name)
        if home is None:
            if len(self._homes) == self._most:
                _, left = self._homes.popitem(last=False)
                self._documents[left] -= 1
            home = self._documents.index(min(self._documents))
            self._homes[name] = home
            self._documents[home] += 1
        self._homes.move_to_end(name)
        return home


def beginning(question: Question) -> str:
    """What stands for a document that nobody names, while it is typed in: what follows
    the cursor's line, or else how the text begins."""
    about = question.about
    if isinstance(about, str):
        return about[:BEGINNING_CHARS]
    following = about.suffix.partition("\n")[2]
    return (following or about.prefix)[:BEGINNING_CHARS]

"""Keeps a model served: a fresh one takes over where an engine has ended or hangs, and
when another checkpoint lies where the old one lay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from typing import Any

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.engine import EngineCounters
from tabwise_server.errors import Overloaded, TabwiseError
from tabwise_server.serving.engine.model import ServedModel

logger = logging.getLogger(__name__)

LOOKS = 8  # at the engine within the time after which it counts as hung
START_S = 60.0  # for a fresh model's first answer
RETIRE_S = 60.0  # what an old model's requests get to finish
RESTART_REASONS = ("ended", "hung")
MOST_RESTARTS, WITHIN_S = 5, 60.0  # more than that is beyond mending from inside


class Keeper:
    """The model that answers now, and what becomes of it.

    read: the checkpoint as it lies now; build: a model of it, not yet started. Both may
    take long and are called in threads. stall_s: a step that takes longer hangs.
    """

    def __init__(
        self,
        model: ServedModel,
        read: Callable[[], Checkpoint],
        build: Callable[[Checkpoint], ServedModel],
        stall_s: float,
    ) -> None:
        self.model = model
        self.restarts: Counter[str] = Counter()  # by reason
        self.given_up = asyncio.Event()  # restarting has not helped
        self._read, self._build = read, build
        self._stall_s = stall_s
        self._retired = EngineCounters()
        self._leaving: list[ServedModel] = []  # replaced, but not yet done
        self._recent: deque[float] = deque(maxlen=MOST_RESTARTS)
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.model.start()
        self._spawn(self._watch())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in (self.model, *self._leaving):
            await model.stop()

    def close(self, kind: type[TabwiseError], said: str) -> None:
        """Answer everything in flight with such an error, and look after nothing any
        more."""
        for task in self._tasks:
            task.cancel()
        for model in (self.model, *self._leaving):
            model.bridge.abandon(kind, said)

    @property
    def counters(self) -> EngineCounters:
        """Of all engines since the start."""
        counters = self._retired
        for model in (self.model, *self._leaving):
            counters = counters.plus(model.engine.counters)
        return counters

    def check(self) -> None:
        """Raises EngineGone, or Overloaded if the engine has not moved for long: at
        once, so that a router can ask another backend."""
        bridge = self.model.bridge
        bridge.check()
        if bridge.stalled_s > self._stall_s / 2:
            raise Overloaded(f"the engine's step has taken {bridge.stalled_s:.1f} s")

    @property
    def hangs(self) -> bool:
        return self.model.bridge.stalled_s > self._stall_s

    async def reload(self) -> bool:
        """Serve the checkpoint as it lies now; returns whether that is another one.

        The old one answers until the new one has, and then what it has begun. Raises
        what `read` and `build` do, and then nothing has changed.
        """
        async with self._changing:
            checkpoint = await asyncio.to_thread(self._read)
            if checkpoint.digest == self.model.checkpoint.digest:
                return False
            fresh = await self._started(
                await asyncio.to_thread(self._build, checkpoint)
            )
            self._leaving.append(self.model)
            self._spawn(self._retire(self.model))
            self.model = fresh
            return True

    async def _watch(self) -> None:
        """Look after the engine until cancelled, or until restarting does not help."""
        while not self.given_up.is_set():
            if await self.model.bridge.ends(self._stall_s / LOOKS):
                await self._restart("ended")
            elif self.hangs:
                await self._restart("hung")

    async def _restart(self, reason: str) -> None:
        """Answer what is in flight, and put a fresh model in the old one's place. The
        checkpoint is the one in memory: what lies on the disk may be another.

        Where a thread has ended, its runner is fit, and what its slots hold is kept: the
        next keystrokes find their prompts computed. Where that did not last, the runner
        is a fresh one too.
        """
        logger.error("the engine has %s; starting another", reason)
        self.restarts[reason] += 1
        broken = self.model
        broken.bridge.abandon()
        async with self._changing:
            if self.model is not broken:
                return  # a reload has replaced it
            if self._too_often():
                logger.critical("%d restarts did not help; giving up", MOST_RESTARTS)
                self.given_up.set()
                return
            kept = reason == "ended" and not self._ended_lately()
            try:
                self.model = await self._ready(broken, kept)
                self._retired = self._retired.plus(broken.engine.counters)
                logger.warning("the engine is back")
            except Exception:
                logger.exception("the engine could not be started again")
                self.given_up.set()

    def _too_often(self) -> bool:
        now = time.monotonic()
        full = len(self._recent) == MOST_RESTARTS
        too_often = full and now - self._recent[0] < WITHIN_S
        self._recent.append(now)
        return too_often

    def _ended_lately(self) -> bool:
        """Whether it was restarted shortly before this time too."""
        last = [*self._recent][-2:]
        return len(last) == 2 and last[1] - last[0] < WITHIN_S

    async def _ready(self, broken: ServedModel, kept: bool) -> ServedModel:
        """What takes its place. kept: with its runner, if its thread is really over."""
        if kept and await broken.bridge.left_its_thread():
            return await self._started(broken.successor())
        return await self._started(
            await asyncio.to_thread(self._build, broken.checkpoint)
        )

    async def _started(self, fresh: ServedModel) -> ServedModel:
        """The model, once it has answered. Raises TimeoutError if it never does, and
        what its first answer does."""
        try:
            async with asyncio.timeout(START_S):
                await fresh.start()
        except BaseException:
            fresh.bridge.abandon()
            raise
        return fresh

    async def _retire(self, old: ServedModel) -> None:
        """Stop a model once it has answered what it began."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETIRE_S):
                while old.in_flight:  # noqa: ASYNC110 - rare, and soon over
                    await asyncio.sleep(0.05)
        await old.stop()
        self._leaving.remove(old)
        self._retired = self._retired.plus(old.engine.counters)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside, until `stop`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

"""Keeps a model served: a fresh one takes over where an engine has ended or hangs, and
when another checkpoint lies where the old one lay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from typing import Any

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.engine import EngineCounters
from tabwise_model.request import Generation, Progress
from tabwise_server.errors import EngineFailed, Overloaded, TabwiseError
from tabwise_server.serving.engine.bridge import NotBegun
from tabwise_server.serving.engine.engines import Figures
from tabwise_server.serving.engine.model import ServedModel
from tabwise_server.serving.question import Asker, Question

logger = logging.getLogger(__name__)

MOST_HELD_S = 1.0  # that a request waits for an engine to be replaced
RESTART_S = 0.3  # what that takes
LOOKS = 8  # at the engine within the time after which it counts as hung
START_S = 60.0  # for a fresh model's first answer
RETIRE_S = 60.0  # what an old model's requests get to finish
MOST_RESTARTS, WITHIN_S = 5, 60.0  # more than that is beyond mending from inside


class Keeper:
    """The model that answers now, and what becomes of it; see `Engines`.

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
        self._most_held_s = MOST_HELD_S
        self._replaced = asyncio.Event()  # set when this model is, or none ever will be
        self._closed = False
        self._retired = EngineCounters()
        self._leaving: list[ServedModel] = []  # replaced, but not yet done
        self._recent: deque[float] = deque(maxlen=MOST_RESTARTS)
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.model.start()
        self._spawn(self._watch())

    async def stop(self) -> None:
        self._close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in (self.model, *self._leaving):
            await model.stop()

    def close(self, kind: type[TabwiseError], said: str) -> None:
        self._close()
        for task in self._tasks:
            task.cancel()
        for model in (self.model, *self._leaving):
            model.bridge.abandon(kind, said)

    async def figures(self) -> Figures:
        return self.figures_now()

    def figures_now(self) -> Figures:
        """Of all engines since the start."""
        counters, engine = self._retired, self.model.engine
        for model in (self.model, *self._leaving):
            counters = counters.plus(model.engine.counters)
        return Figures(
            counters=counters,
            queued=engine.queued,
            running=engine.running,
            slots=self.model.facts.slots,
            remembered_tokens=self.model.remembered_tokens,
            restarts=self.restarts,
        )

    async def answer(
        self,
        question: Question,
        asker: Asker,
        progress: Callable[[Progress], None] | None = None,
    ) -> Generation:
        """See `Model`; of whichever model answers now."""
        while True:
            model = await self.model_for(question, asker)
            with contextlib.suppress(NotBegun):
                return await model.answer(question, asker, progress)

    async def model_for(self, question: Question, asker: Asker) -> ServedModel:
        """The model to ask, once one answers. While the engine does not move or is
        being replaced, a request waits for it, in its inbox or here.

        Raises what `check` does where that would take long, so that a router can ask
        another backend, whose cache does not know the document.
        """
        deadline = asker.deadline
        now = time.monotonic()
        until = min(now + self._most_held_s, deadline or math.inf)
        while self._in_trouble:
            if self._closed or time.monotonic() + self._wait_s > until:
                self.check()
            if self.model.bridge.alive:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._replaced.wait()
        return self.model

    @property
    def _in_trouble(self) -> bool:
        bridge = self.model.bridge
        return not bridge.alive or bridge.stalled_s > self._stall_s / 2

    @property
    def _wait_s(self) -> float:
        """What it takes until another engine answers, at the most."""
        if self.given_up.is_set():
            return math.inf
        bridge = self.model.bridge
        hangs_s = self._stall_s - bridge.stalled_s if bridge.alive else 0.0
        return RESTART_S + max(0.0, hangs_s)

    def check(self) -> None:
        """Raises EngineGone, or Overloaded if the engine has not moved for long."""
        bridge = self.model.bridge
        bridge.check()
        if bridge.stalled_s > self._stall_s / 2:
            raise Overloaded(f"the engine's step has taken {bridge.stalled_s:.1f} s")

    def check_alive(self) -> None:
        if not self.model.bridge.alive:
            raise EngineFailed("the engine has ended")
        if self.hangs:
            stalled_s = self.model.bridge.stalled_s
            raise EngineFailed(f"the engine's step has taken {stalled_s:.0f} s")

    @property
    def hangs(self) -> bool:
        return self.model.bridge.stalled_s > self._stall_s

    async def reload(self) -> bool:
        """The old one answers until the new one has, and then what it has begun. Raises
        what `read` and `build` do."""
        async with self._changing:
            checkpoint = await asyncio.to_thread(self._read)
            if checkpoint.digest == self.model.checkpoint.digest:
                return False
            fresh = await self._started(
                await asyncio.to_thread(self._build, checkpoint)
            )
            self._leaving.append(self.model)
            self._spawn(self._retire(self.model))
            self._take(fresh)
            return True

    def _take(self, fresh: ServedModel) -> None:
        self.model = fresh
        self._replaced.set()
        self._replaced = asyncio.Event()

    def _give_up(self) -> None:
        self.given_up.set()
        self._close()

    def _close(self) -> None:
        self._closed = True
        self._replaced.set()

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

        What slots at rest hold is kept, so that the next keystrokes find their prompts
        computed: with the runner of a thread that has ended, in a copy where it hangs.
        Where that did not last, nothing of the old is trusted.
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
                self._give_up()
                return
            lasted = not self._restarted_lately()
            try:
                self._take(await self._successor(broken, reason if lasted else None))
                self._retired = self._retired.plus(broken.engine.counters)
                logger.warning("the engine is back")
            except Exception:
                logger.exception("the engine could not be started again")
                self._give_up()

    def _too_often(self) -> bool:
        now = time.monotonic()
        full = len(self._recent) == MOST_RESTARTS
        too_often = full and now - self._recent[0] < WITHIN_S
        self._recent.append(now)
        return too_often

    def _restarted_lately(self) -> bool:
        """Whether it was restarted shortly before this time too."""
        last = [*self._recent][-2:]
        return len(last) == 2 and last[1] - last[0] < WITHIN_S

    async def _successor(self, broken: ServedModel, reason: str | None) -> ServedModel:
        """What takes its place, started. reason: None to keep nothing."""
        if reason == "ended" and await broken.bridge.left_its_thread():
            return await self._started(broken.successor())
        fresh = await asyncio.to_thread(self._build, broken.checkpoint)
        if reason == "hung":
            await asyncio.to_thread(fresh.take_over, broken)
        return await self._started(fresh)

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

"""Between the event loop and the engine's own thread.

The thread alone touches the engine. It sleeps when there is nothing to do, and is woken
by a submit or a cancel; results go back to the loop as futures. Whatever goes wrong in
the thread, every request is answered, by its deadline at the latest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable

from tabwise_model.engine import Engine
from tabwise_model.request import Finish, Generation, GenerationRequest
from tabwise_server.errors import (
    DeadlineExceeded,
    EngineFailed,
    Overloaded,
    TabwiseError,
)

logger = logging.getLogger(__name__)

JOIN_S = 5.0  # how long a stop waits for the step that is being made
LATE_S = 0.05  # past a deadline; by then the engine has told it itself, if it steps
GONE = "the engine has ended; ask again in a second"
PASSED = "the deadline passed before the completion was done"


class EngineGone(Overloaded):
    """The engine ended, or hung, with this request; another takes its place."""

    code = "backend_unavailable"


class NotBegun(EngineGone):
    """The engine ended, or hung, before it looked at this request, which may be asked
    again of the one that takes its place."""


class EngineBridge:
    """Submit generations from one event loop, each awaited or cancelled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._futures: dict[str, asyncio.Future[Generation]] = {}
        self._begun: set[str] = set()  # that the engine has seen and not handed out
        self._wake = threading.Condition()
        self._inbox: list[Callable[[], None]] = []
        self._stopping = False
        # once it has ended, what to raise; changed in the event loop only
        self._ended: tuple[type[TabwiseError], str] | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._busy_since: float | None = None  # when the current step began
        self._over = asyncio.Event()
        self.restarts = 0  # times that a step raised and the engine began afresh

    def start(self) -> None:
        """Begin serving the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after its current step; what is in flight is refused."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join, JOIN_S)
        self._abandon()

    async def generate(self, request: GenerationRequest) -> Generation:
        """The finished generation. Cancelling the caller cancels the request.

        Raises DeadlineExceeded, EngineFailed with what the runner said, EngineGone
        when the engine ends with it, or NotBegun.
        """
        assert self._loop is not None
        self.check()
        future: asyncio.Future[Generation] = self._loop.create_future()
        self._futures[request.id] = future
        self._post(lambda: self._submit(request))
        last = None if request.deadline is None else request.deadline + LATE_S
        try:
            async with asyncio.timeout_at(last):
                result = await future
        except TimeoutError as error:
            self._cancel(request.id)
            raise DeadlineExceeded(PASSED) from error
        except asyncio.CancelledError:
            self._cancel(request.id)
            raise
        finally:
            del self._futures[request.id]
            # an error in it would hold this frame, and so an engine that is replaced
            del future
        failure = _error_of(result)
        if failure is not None:
            raise failure
        return result

    def abandon(self, kind: type[TabwiseError] = EngineGone, said: str = GONE) -> None:
        """Answer everything in flight with such an error and take nothing more; the
        thread ends when its step does, if ever. Called in the event loop."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._abandon(kind, said)

    def check(self) -> None:
        """Raises NotBegun once the engine has ended, or what `abandon` was told."""
        if self._ended is not None:
            raise self._end_of(begun=False)

    @property
    def alive(self) -> bool:
        """Whether the engine's thread serves."""
        return self._ended is None

    async def ends(self, within_s: float) -> bool:
        """Wait so long at most; returns whether it has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._over.wait()
        return not self.alive

    async def left_its_thread(self) -> bool:
        """Whether the thread, which is expected to end, has done so: nothing touches
        the engine any more."""
        await asyncio.to_thread(self._thread.join, JOIN_S)
        return not self._thread.is_alive()

    @property
    def stalled_s(self) -> float:
        """Seconds that the current step has taken so far; 0 between steps."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _post(self, action: Callable[[], None]) -> None:
        with self._wake:
            self._inbox.append(action)
            self._wake.notify()

    def _cancel(self, request_id: str) -> None:
        if self.alive:
            self._post(lambda: self._engine.cancel(request_id))

    def _taken_in(self) -> list[Callable[[], None]]:
        """What was posted since the last time."""
        with self._wake:
            actions, self._inbox = self._inbox, []
        return actions

    def _submit(self, request: GenerationRequest) -> None:
        self._begun.add(request.id)
        try:
            self._engine.submit(request)
        except Exception as error:  # noqa: BLE001 - it must be answered
            failed = Generation(id=request.id, finish=Finish.FAILED, error=str(error))
            self._hand_over([failed])

    def _run(self) -> None:
        try:
            while self._sleep():
                self._turn()
        finally:
            self._tell_loop(self._abandon)

    def _sleep(self) -> bool:
        """Wait until there is something to do; False to stop."""
        with self._wake:
            while not (self._inbox or self._engine.has_work or self._stopping):
                self._wake.wait()
            return not self._stopping

    def _turn(self) -> None:
        """Take in what was posted, and make one step."""
        self._busy_since = time.monotonic()
        try:
            for action in self._taken_in():
                action()
            done = self._engine.step()
        except Exception as error:
            logger.exception("the engine failed; it goes on with empty slots")
            self.restarts += 1
            done = self._engine.fail_all(error)
        self._busy_since = None
        if done:
            self._hand_over(done)

    def _hand_over(self, done: list[Generation]) -> None:
        """From the engine's thread to the event loop."""
        self._tell_loop(lambda: self._deliver(done))

    def _tell_loop(self, action: Callable[[], None]) -> None:
        assert self._loop is not None
        # the loop may have closed while a step ran
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(action)

    def _deliver(self, done: list[Generation]) -> None:
        for result in done:
            self._begun.discard(result.id)
            future = self._futures.get(result.id)
            if future is not None and not future.done():
                future.set_result(result)

    def _abandon(self, kind: type[TabwiseError] = EngineGone, said: str = GONE) -> None:
        """The thread has ended: nobody will answer these, nor any that come."""
        self._ended = self._ended or (kind, said)
        self._over.set()
        # nor will anybody take these in; they would hold the engine
        self._taken_in()
        for name, future in self._futures.items():
            if not future.done():
                future.set_exception(self._end_of(begun=name in self._begun))

    def _end_of(self, *, begun: bool) -> TabwiseError:
        """What a request is told, now that the engine has ended."""
        assert self._ended is not None
        kind, said = self._ended
        return NotBegun(said) if kind is EngineGone and not begun else kind(said)


def _error_of(result: Generation) -> TabwiseError | None:
    if result.finish is Finish.EXPIRED:
        return DeadlineExceeded(PASSED)
    if result.finish is Finish.FAILED:
        logger.error("request %s failed: %s", result.id, result.error)
        return EngineFailed(f"the engine failed: {result.error}")
    if result.finish is Finish.CANCELLED:
        return EngineFailed("the request was cancelled")
    return None

"""Between the event loop and the engine's own thread.

The thread alone touches the engine. It sleeps when there is nothing to do, and is woken
by a submit or a cancel; results go back to the loop as futures.
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
from tabwise_server.errors import DeadlineExceeded, EngineFailed, TabwiseError

logger = logging.getLogger(__name__)


class EngineBridge:
    """Submit generations from one event loop, each awaited or cancelled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._futures: dict[str, asyncio.Future[Generation]] = {}
        self._wake = threading.Condition()
        self._inbox: list[Callable[[], None]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.last_beat = time.monotonic()

    def start(self) -> None:
        """Begin serving the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after its current step; what is in flight is cancelled."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)
        for future in self._futures.values():
            future.cancel()

    async def generate(self, request: GenerationRequest) -> Generation:
        """The finished generation. Cancelling the caller cancels the request.

        Raises DeadlineExceeded, or EngineFailed with what the runner said.
        """
        assert self._loop is not None
        future: asyncio.Future[Generation] = self._loop.create_future()
        self._futures[request.id] = future
        self._post(lambda: self._submit(request))
        try:
            result = await future
        except asyncio.CancelledError:
            self._post(lambda: self._engine.cancel(request.id))
            raise
        finally:
            del self._futures[request.id]
        error = _error_of(result)
        if error is not None:
            raise error
        return result

    @property
    def stalled_s(self) -> float:
        """Seconds since the engine last made a step while it had work; 0 when idle."""
        return time.monotonic() - self.last_beat if self._engine.has_work else 0.0

    def _post(self, action: Callable[[], None]) -> None:
        with self._wake:
            self._inbox.append(action)
            self._wake.notify()

    def _submit(self, request: GenerationRequest) -> None:
        try:
            self._engine.submit(request)
        except ValueError as error:
            failed = Generation(id=request.id, finish=Finish.FAILED, error=str(error))
            self._hand_over([failed])

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._inbox or self._engine.has_work or self._stopping):
                    self._wake.wait()
                if self._stopping:
                    return
                actions, self._inbox = self._inbox, []
            for action in actions:
                action()
            self.last_beat = time.monotonic()
            done = self._engine.step()
            if done:
                self._hand_over(done)

    def _hand_over(self, done: list[Generation]) -> None:
        """From the engine's thread to the event loop."""
        assert self._loop is not None
        # the loop may have closed while a step ran
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, done)

    def _deliver(self, done: list[Generation]) -> None:
        for result in done:
            future = self._futures.get(result.id)
            if future is not None and not future.done():
                future.set_result(result)


def _error_of(result: Generation) -> TabwiseError | None:
    if result.finish is Finish.EXPIRED:
        return DeadlineExceeded("the deadline passed before the completion was done")
    if result.finish is Finish.FAILED:
        logger.error("request %s failed: %s", result.id, result.error)
        return EngineFailed(f"the engine failed: {result.error}")
    if result.finish is Finish.CANCELLED:
        return EngineFailed("the request was cancelled")
    return None

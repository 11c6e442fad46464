"""A model in a process of its own, as its server sees it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import attrs

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.prompt import Prompt
from tabwise_model.request import Generation, Progress
from tabwise_server.errors import DeadlineExceeded, EngineFailed, TabwiseError
from tabwise_server.serving.engine.bridge import (
    GONE,
    LATE_S,
    PASSED,
    EngineGone,
    NotBegun,
)
from tabwise_server.serving.engine.engines import Facts, Figures
from tabwise_server.serving.engine.link import (
    Ask,
    Begin,
    Cancel,
    Done,
    Failed,
    Link,
    Logged,
    Look,
    Ready,
    Seen,
    Some,
    Unfit,
    linked,
)
from tabwise_server.serving.engine.reader import Reader
from tabwise_server.serving.question import Asker, Question
from tabwise_server.settings import ServeSettings

MODULE = "tabwise_server.serving.engine.child"
LEAVE_S = 2.0  # for a process to leave by itself


class EngineProcess:
    """See `Model`. figures: as it told them last.

    The process begins when this is made, and serves once it is started.
    """

    def __init__(self, checkpoint: Checkpoint, settings: ServeSettings) -> None:
        self._end, self._process = _begun()
        self.checkpoint = checkpoint
        self.figures = Figures()
        self.in_flight = 0  # questions that are not answered
        # what only the server needs stays here
        self._settings = attrs.evolve(
            settings, api_key=None, cache_secret=None, redis_url=None
        )
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Generation]] = {}
        self._told: dict[int, Callable[[Progress], None]] = {}
        self._facts: Facts | None = None
        self._unfit: TabwiseError | None = None
        self._ready = asyncio.Event()
        self._seen = asyncio.Event()
        self._well = True  # as it said last
        self._asked: float | None = None  # when, if that is not yet answered
        # once it has ended, what to raise
        self._ended: tuple[type[TabwiseError], str] | None = None
        self._over = asyncio.Event()
        self._link: Link | None = None

    async def start(self) -> None:
        """Return once it has answered. Raises what keeps it from serving."""
        self._link = await linked(self._end, self._take, self._lose)
        self._link.send(Begin(self.checkpoint, self._settings))
        await self._ready.wait()
        if self._unfit is not None:
            raise self._unfit

    async def stop(self) -> None:
        """End the process; what is in flight is refused."""
        self.abandon()
        self._end.close() if self._link is None else self._link.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, LEAVE_S)
        await self.kill()

    async def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        self._lose()

    @property
    def facts(self) -> Facts:
        """Once it is started."""
        assert self._facts is not None
        return self._facts

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._ended is None

    @property
    def well(self) -> bool:
        """Whether it said so, when it was looked at last."""
        return self.alive and self._well

    @property
    def silent_s(self) -> float:
        """Seconds since it was looked at, if it has not answered that."""
        return 0.0 if self._asked is None else time.monotonic() - self._asked

    def prompt(self, question: Question) -> Prompt:
        return self._reader.prompt(question)

    @functools.cached_property
    def _reader(self) -> Reader:
        return Reader(self.checkpoint, self.facts.window, self.facts.width)

    async def answer(
        self,
        question: Question,
        asker: Asker,
        progress: Callable[[Progress], None] | None = None,
    ) -> Generation:
        """See `Model`. Cancelling the caller cancels the request."""
        if self._ended is not None:
            raise NotBegun(self._ended[1])
        id = next(self._ids)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Generation] = loop.create_future()
        self._waiting[id] = future
        if progress is not None:
            self._told[id] = progress
        self.in_flight += 1
        self._send(Ask(id, question, asker, progress is not None))
        # the process itself is a little late already
        last = None if asker.deadline is None else asker.deadline + 2 * LATE_S
        try:
            async with asyncio.timeout_at(last):
                return await future
        except TimeoutError as error:
            self._send(Cancel(id))
            raise DeadlineExceeded(PASSED) from error
        except asyncio.CancelledError:
            self._send(Cancel(id))
            raise
        finally:
            self.in_flight -= 1
            del self._waiting[id]
            self._told.pop(id, None)

    def abandon(self, kind: type[TabwiseError] = EngineGone, said: str = GONE) -> None:
        """Answer everything in flight with such an error and take nothing more."""
        self._ended = self._ended or (kind, said)
        self._over.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._ended[0](self._ended[1]))

    async def ends(self, within_s: float) -> bool:
        """Wait so long at most; returns whether it has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._over.wait()
        return not self.alive

    async def look(self, within_s: float) -> bool:
        """Have it tell its figures; False if it does not, or has ended."""
        if not self.alive:
            return False
        self._seen.clear()
        self._asked = self._asked or time.monotonic()
        self._send(Look())
        try:
            async with asyncio.timeout(within_s):
                await self._seen.wait()
        except TimeoutError:
            return False
        return self.alive  # whoever looks next may have cleared the event by now

    def _send(self, message: Any) -> None:
        assert self._link is not None
        self._link.send(message)

    def _take(self, message: Any) -> None:
        match message:
            case Done():
                future = self._waiting.get(message.id)
                if future is not None and not future.done():
                    future.set_result(message.result)
            case Failed():
                future = self._waiting.get(message.id)
                if future is not None and not future.done():
                    future.set_exception(message.kind(message.said))
            case Some():
                if message.id in self._told:
                    self._told[message.id](message.progress)
            case Seen():
                self.figures, self._well = message.figures, message.well
                self._asked = None
                self._seen.set()
            case Logged():
                logging.getLogger(message.record.name).handle(message.record)
            case Ready():
                self._facts = message.facts
                self._ready.set()
            case Unfit():
                self._unfit = message.kind(message.said)
                self._ready.set()

    def _lose(self) -> None:
        """The process has ended."""
        if not self._ready.is_set():
            self._unfit = EngineFailed("an engine's process ended before it answered")
            self._ready.set()
        self.abandon()
        self._seen.set()


def _begun() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A process that waits to be told what it serves, and our end of its link. -P: see
    `backends/daemon.py`."""
    ours, theirs = socket.socketpair()
    with theirs:
        fd = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, str(fd)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[fd],
        )
    ours.setblocking(False)
    return ours, process

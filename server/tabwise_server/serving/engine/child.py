"""A process that computes for a server: a model, kept as in the server's own.

    python -m tabwise_server.serving.engine.child FD

FD is its socket of a pair (see `link.py`). It leaves when the other is closed, and only
then: what stops a server, a terminal's Ctrl-C among it, often reaches all processes,
and the server still has requests to finish.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
import time
import traceback
from functools import partial
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any

import attrs

from tabwise_model.request import Progress
from tabwise_server.errors import EngineFailed, TabwiseError
from tabwise_server.serving.engine.bridge import EngineGone, NotBegun
from tabwise_server.serving.engine.engines import Figures
from tabwise_server.serving.engine.keeper import Keeper
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
from tabwise_server.serving.engine.loading import SWITCH_S, keeper_of

logger = logging.getLogger(__name__)

# The server goes first: it is soon done, and refusals must not wait for the engines.
NICE = 5
UNFORESEEN = "internal error; see the server's log"


class Child:
    """Answers what comes by its link, until that is lost or the engine beyond help."""

    def __init__(self) -> None:
        self._begin: asyncio.Queue[Begin | None] = asyncio.Queue()
        self._lost = asyncio.Event()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._link: Link
        self._keeper: Keeper

    async def run(self, end: socket.socket) -> int:
        """Returns the exit status."""
        self._link = await linked(end, self._take, self._lose)
        logging.basicConfig(level=logging.INFO, handlers=[_ToLink(self._link)])
        begin = await self._begin.get()
        if begin is None:
            return 0
        try:
            self._keeper = keeper_of(begin.checkpoint, begin.settings)
            await self._keeper.start()
        except TabwiseError as error:
            return await self._leave(Unfit(type(error), str(error)))
        except Exception as error:
            logger.exception("an engine's process cannot start")
            return await self._leave(Unfit(EngineFailed, str(error)))
        self._link.send(Ready(self._keeper.model.facts))
        ends = [self._lost.wait(), self._keeper.given_up.wait()]
        waiting = [asyncio.ensure_future(one) for one in ends]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return 0 if self._lost.is_set() else 1

    async def _leave(self, word: Unfit) -> int:
        self._link.send(word)
        self._link.close()
        await self._lost.wait()
        return 1

    def _lose(self) -> None:
        self._lost.set()
        self._begin.put_nowait(None)

    def _take(self, message: Any) -> None:
        match message:
            case Ask():
                task = asyncio.create_task(self._answer(message))
                self._tasks[message.id] = task
                task.add_done_callback(lambda _: self._tasks.pop(message.id))
            case Cancel():
                if message.id in self._tasks:
                    self._tasks[message.id].cancel()
            case Look():
                self._link.send(Seen(self._figures(), self._well()))
            case Begin():
                self._begin.put_nowait(message)

    async def _answer(self, ask: Ask) -> None:
        tell = partial(self._tell, asyncio.get_running_loop(), ask.id)
        try:
            result = await self._keeper.answer(
                ask.question, ask.asker, tell if ask.tells else None
            )
        except TabwiseError as error:
            # its own keeper has waited for another engine: nobody here will answer
            kind = EngineGone if isinstance(error, NotBegun) else type(error)
            self._link.send(Failed(ask.id, kind, str(error)))
        except Exception as error:  # noqa: BLE001 - it must be answered
            # where, not what: an error's text may quote the request
            where = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s in an engine's process\n%s", type(error).__name__, where)
            self._link.send(Failed(ask.id, TabwiseError, UNFORESEEN))
        else:
            self._link.send(Done(ask.id, result))

    def _tell(self, loop: asyncio.AbstractEventLoop, id: int, found: Progress) -> None:
        """From the engine's thread."""
        loop.call_soon_threadsafe(self._link.send, Some(id, found))

    def _well(self) -> bool:
        try:
            self._keeper.check()
        except TabwiseError:
            return False
        return True

    def _figures(self) -> Figures:
        return attrs.evolve(
            self._keeper.figures_now(),
            resident_bytes=_resident_bytes(),
            cpu_s=time.process_time(),
        )


class _ToLink(QueueHandler):
    """What is logged here is written by the server, in its form and to its place."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)  # type: ignore[arg-type]  # see `enqueue`
        self._link, self._loop = link, asyncio.get_running_loop()

    def enqueue(self, record: logging.LogRecord) -> None:
        self._loop.call_soon_threadsafe(self._link.send, Logged(record))


def _resident_bytes() -> int:
    """0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main(fd: int) -> None:
    faulthandler.enable()
    os.nice(NICE)
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_S)
    status = asyncio.run(Child().run(socket.socket(fileno=fd)))
    # an engine that hangs would hang the interpreter's end too
    os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))

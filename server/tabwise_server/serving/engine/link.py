"""Messages between a server and the processes that compute for it.

Each is a pickled object behind its length, on a pair of sockets that only these two
hold: nothing from outside is ever unpickled.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any

import attrs

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.request import Generation, Progress
from tabwise_server.errors import TabwiseError
from tabwise_server.serving.engine.engines import Facts, Figures
from tabwise_server.serving.question import Asker, Question
from tabwise_server.settings import ServeSettings

SEND_BYTES = 1_000_000  # that the system may hold for who has not yet read
_LENGTH = struct.Struct("<I")


@attrs.frozen
class Begin:
    """To a process: what it serves."""

    checkpoint: Checkpoint
    settings: ServeSettings


@attrs.frozen
class Ask:
    """tells: whether progress is wanted."""

    id: int
    question: Question
    asker: Asker
    tells: bool


@attrs.frozen
class Cancel:
    id: int


@attrs.frozen
class Look:
    """Asks for figures, and so whether it still reads."""


@attrs.frozen
class Ready:
    """From a process: it answers."""

    facts: Facts


@attrs.frozen
class Unfit:
    """It cannot serve that."""

    kind: type[TabwiseError]
    said: str


@attrs.frozen
class Some:
    id: int
    progress: Progress


@attrs.frozen
class Done:
    id: int
    result: Generation


@attrs.frozen
class Failed:
    id: int
    kind: type[TabwiseError]
    said: str


@attrs.frozen
class Seen:
    """well: whether a request would be answered soon."""

    figures: Figures
    well: bool


@attrs.frozen
class Logged:
    """What it has to say in the server's log."""

    record: logging.LogRecord


class Link(asyncio.Protocol):
    """One end. take: called with each message; lost: once the other end is gone."""

    def __init__(self, take: Callable[[Any], None], lost: Callable[[], None]) -> None:
        self._take, self._lost = take, lost
        self._unread = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def send(self, message: Any) -> None:
        """Nothing happens once the link is closed or lost."""
        if self._transport is None or self._transport.is_closing():
            return
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._transport.write(_LENGTH.pack(len(data)) + data)

    def close(self) -> None:
        """What was sent goes out before the other end sees it."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        unread = self._unread
        unread += data
        at = 0
        while len(unread) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(unread, at)
            begin, end = at + _LENGTH.size, at + _LENGTH.size + length
            if len(unread) < end:
                break
            self._take(pickle.loads(unread[begin:end]))
            at = end
        del unread[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()


async def linked(
    end: socket.socket, take: Callable[[Any], None], lost: Callable[[], None]
) -> Link:
    """A link of the running event loop on one socket of a pair."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(lambda: Link(take, lost), sock=end)
    return link

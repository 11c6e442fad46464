"""What a full house refuses before HTTP is parsed, at a quarter of the cost.

A connection's bytes go through its door to aiohttp's handler. A request that begins
while the house is full is answered here and never goes in; everything else goes in as
it came. The door reads as much of HTTP as it must to know where a request ends, and
leaves alone whatever it is not sure of.
"""

from __future__ import annotations

import asyncio
import re
import time
from http import HTTPStatus

from tabwise_server.errors import Overloaded
from tabwise_server.serving.admission.overload import BODY, RETRY_S, House

_STATUS = HTTPStatus(Overloaded.status)
ANSWER = (
    f"HTTP/1.1 {_STATUS} {_STATUS.phrase}\r\nContent-Type: application/json\r\n"
    f"Retry-After: {RETRY_S}\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode() + BODY
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?=\r\n)", re.I)
# What makes an end, or what is to become of the connection, a matter for a real parser.
_ODD = re.compile(
    rb"\r\n(?:transfer-encoding|expect|upgrade"
    rb"|content-length(?!:[ \t]*\d{1,9}[ \t]*\r)"
    rb"|connection(?!:[ \t]*keep-alive[ \t]*\r))",
    re.I,
)


class Door(asyncio.Protocol):
    """Before one connection's handler.

    most_bytes: of a body that is read over if it was refused. within_s: so long after
    it last let something in, it lets a request in whatever happens: the handler closes
    a connection on which it has seen nothing for long.
    """

    def __init__(
        self,
        handler: asyncio.Protocol,
        house: House,
        *,
        most_bytes: int,
        within_s: float,
    ) -> None:
        self._handler, self._house = handler, house
        self._most_bytes, self._within_s = most_bytes, within_s
        self._last_in = time.monotonic()
        self._owed: int | None = 0  # of what went in, bytes to come; None: unknown
        self._to_drop = 0  # of what was refused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._to_drop:
            dropped = min(self._to_drop, len(data))
            self._to_drop -= dropped
            data = data[dropped:]
            if not data:
                return
        if self._owed == 0:
            self._owed = owed_by(data)
            if self._owed is not None and self._refuses(data, self._owed):
                self._to_drop, self._owed = self._owed, 0
                return
        elif self._owed is not None:
            # what comes behind a request's end was sent before its answer
            self._owed = self._owed - len(data) if len(data) <= self._owed else None
        self._last_in = time.monotonic()
        self._handler.data_received(data)

    def _refuses(self, data: bytes, owed: int) -> bool:
        """Answer a request that begins with `data`, if that is certain to be right."""
        certain = (
            self._house.full
            and data.startswith(b"POST ")
            and data.endswith(b" HTTP/1.1", 0, data.index(b"\r\n"))
            and owed <= self._most_bytes
            and _waits(self._handler)
            and not self._transport.get_write_buffer_size()
            and time.monotonic() - self._last_in < self._within_s
        )
        if certain:
            self._house.count()
            self._transport.write(ANSWER)
        return certain

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()


def owed_by(data: bytes) -> int | None:
    """How many bytes of the request that begins with `data` are yet to come; None if
    that cannot be told, or if more than the request has come."""
    head = data.find(b"\r\n\r\n")
    if head < 0 or _ODD.search(data, 0, head + 2):
        return None
    lengths = _LENGTH.findall(data, 0, head + 2)
    if len(lengths) > 1:
        return None
    owed = int(lengths[0] if lengths else 0) - (len(data) - head - 4)
    return owed if owed >= 0 else None


def _waits(handler: asyncio.Protocol) -> bool:
    """Whether aiohttp's handler has answered everything and waits for a request. Its
    own field; were it gone, every request would go in and be refused there."""
    waiter: asyncio.Future[None] | None = getattr(handler, "_waiter", None)
    return waiter is not None and not waiter.done()

"""One HTTP connection that believes nothing: an answer is the one to the request that
was sent, whole, and nothing comes behind it."""

from __future__ import annotations

import asyncio
import json
import socket

import attrs

CHUNK = 65_536
SLOW_BUFFER = 2_048  # bytes that the system keeps for a client that reads slowly
SLOW_BYTES, SLOW_PAUSE_S = 256, 0.02
MOST_BYTES = 4_000_000


class NoAnswer(Exception):
    """The connection ended before a whole answer had come."""


class StreamFailed(Exception):
    """A stream whose last event is an error."""


class NotOneAnswer(Exception):
    """More came than the answer, or what is no answer."""


@attrs.frozen(kw_only=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Line:
    """Asks one thing after the other; opens its connection when it needs one."""

    def __init__(self, host: str, port: int, slow: bool = False) -> None:
        """slow: read little at a time."""
        self._host, self._port, self._slow = host, port, slow
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Raises NoAnswer, NotOneAnswer, OSError."""
        try:
            reader, writer = await self._opened()
            writer.write(_head(self._host, path, headers, len(body)) + body)
            await writer.drain()
            reply = await self._reply(reader)
            if reader._buffer:  # type: ignore[attr-defined]  # what came behind it
                raise NotOneAnswer(f"after an answer: {bytes(reader._buffer)[:80]!r}")  # type: ignore[attr-defined]
        except BaseException:
            self.close()
            raise
        if reply.headers.get("connection", "").lower() == "close":
            self.close()
        return reply

    async def leave_after(
        self, seconds: float, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        """Ask, and go without waiting for the answer."""
        try:
            _, writer = await self._opened()
            writer.write(_head(self._host, path, headers, len(body)) + body)
            await asyncio.sleep(seconds)
        finally:
            self.close()

    def close(self) -> None:
        """At once, whatever is on its way."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            connection = socket.socket()
            connection.setblocking(False)
            if self._slow:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, (self._host, self._port))
            limit = SLOW_BUFFER if self._slow else CHUNK
            self._streams = await asyncio.open_connection(sock=connection, limit=limit)
        return self._streams

    async def _reply(self, reader: asyncio.StreamReader) -> Reply:
        try:
            lines = (
                (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            )
            if not lines[0].startswith("HTTP/1.1 "):
                raise NotOneAnswer(f"an answer that begins {lines[0][:80]!r}")
            pairs = (line.partition(":") for line in lines[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            if headers.get("transfer-encoding") == "chunked":
                body = await self._chunks(reader)
            else:
                body = await self._exactly(reader, int(headers["content-length"]))
        except asyncio.IncompleteReadError as error:
            raise NoAnswer(f"{len(error.partial)} bytes came") from error
        return Reply(status=int(lines[0][9:12]), headers=headers, body=body)

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await self._exactly(reader, size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return body

    async def _exactly(self, reader: asyncio.StreamReader, size: int) -> bytes:
        if size > MOST_BYTES:
            raise NotOneAnswer(f"an answer of {size} bytes")
        if not self._slow:
            return await reader.readexactly(size)
        body = b""
        while len(body) < size:
            await asyncio.sleep(SLOW_PAUSE_S)
            body += await reader.readexactly(min(SLOW_BYTES, size - len(body)))
        return body


def _head(host: str, path: str, headers: dict[str, str], length: int) -> bytes:
    named = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"{named}Content-Length: {length}\r\n\r\n"
    ).encode()


def text_of_events(body: bytes) -> str:
    """The text of a stream in OpenAI's form. Raises StreamFailed for one that ends with
    an error, NotOneAnswer for one that just ends."""
    events = body.decode().split("\n\n")
    if len(events) > 1 and events[-2].startswith('data: {"error": '):
        raise StreamFailed(events[-2])
    if events[-2:] != ["data: [DONE]", ""]:
        raise NotOneAnswer(f"a stream that ends {body[-80:]!r}")
    found = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    return "".join(event["choices"][0]["text"] for event in found)

"""One kept-alive connection that posts JSON: as little work as possible, since a load
generator shares the processor with what it measures."""

from __future__ import annotations

import asyncio


class HttpLine(asyncio.Protocol):
    """One request at a time. Cancelling `post` closes the connection; the next opens
    another."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._head = f"Host: {host}:{port}\r\nContent-Type: application/json\r\n"
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._data = b""

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body, once the whole answer is here. Raises ConnectionError."""
        loop = asyncio.get_running_loop()
        try:
            if self._transport is None:
                await loop.create_connection(lambda: self, self._host, self._port)
            assert self._transport is not None
            self._data = b""
            self._answer = loop.create_future()
            head = f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}"
            self._transport.write(f"{head}\r\n\r\n".encode() + body)
            return await self._answer
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._answer = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed it"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(head[9:12]), body))


def _length(head: bytes) -> int:
    """Content-Length of a response's head."""
    lower = head.lower()
    at = lower.index(b"content-length:") + len(b"content-length:")
    return int(lower[at:].partition(b"\r\n")[0])

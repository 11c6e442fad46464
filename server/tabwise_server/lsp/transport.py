"""Bytes in and out of the language server: stdio, TCP, WebSocket. One client each.

With stdio, file descriptor 1 is turned to stderr as soon as the protocol has its own
copy: a stray print, even from C, cannot break the protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, BinaryIO

from tabwise_server.errors import SettingsError
from tabwise_server.lsp.framing import Framer
from tabwise_server.lsp.server import TabwiseLanguageServer

if TYPE_CHECKING:
    from aiohttp import web

READ_BYTES = 1 << 16

Messages = asyncio.Queue[bytes | None]  # None: the client is gone


def run_stdio(server: TabwiseLanguageServer) -> int:
    """Serve until the client leaves; returns the exit status that LSP asks for."""
    protocol_out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return asyncio.run(_serve_stdio(server, sys.stdin.buffer, protocol_out))


def run_tcp(server: TabwiseLanguageServer, host: str, port: int) -> int:
    """Listen, say where on stderr, serve the first client until it leaves."""
    return asyncio.run(_serve_tcp(server, host, port))


def run_websocket(server: TabwiseLanguageServer, host: str, port: int) -> int:
    """As `run_tcp`; a message is one text frame, without headers."""
    return asyncio.run(_serve_websocket(server, host, port))


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT. Raises SettingsError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise SettingsError(f"must be HOST:PORT, e.g. 127.0.0.1:2087, got {text!r}")
    return host.strip("[]"), int(port)


class _FileWriter:
    """pygls' writer over an unbuffered file; a gone reader raises BrokenPipeError."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def close(self) -> None:
        self._file.close()


async def _serve_stdio(
    server: TabwiseLanguageServer, stdin: BinaryIO, stdout: BinaryIO
) -> int:
    messages: Messages = asyncio.Queue()
    loop = asyncio.get_running_loop()
    reader = threading.Thread(
        target=_read_file, args=(stdin, messages, loop), name="stdin", daemon=True
    )
    reader.start()
    server.protocol.set_writer(_FileWriter(stdout))
    return await _serve(server, messages)


def _read_file(
    file: BinaryIO, messages: Messages, loop: asyncio.AbstractEventLoop
) -> None:
    """A thread: reading a file blocks, and not every file can be waited for."""
    framer = Framer()
    # The loop may have closed while this thread waited.
    with contextlib.suppress(RuntimeError):
        while data := os.read(file.fileno(), READ_BYTES):
            for body in framer.feed(data):
                loop.call_soon_threadsafe(messages.put_nowait, body)
        loop.call_soon_threadsafe(messages.put_nowait, None)


async def _serve(server: TabwiseLanguageServer, messages: Messages) -> int:
    """Handle messages in order until `exit`, or until the client is gone."""
    protocol = server.protocol
    try:
        while protocol.exit_status is None:
            body = await messages.get()
            if body is None:
                break
            protocol.receive(body)
            # Let a request's handler look at the document before the next change.
            await asyncio.sleep(0)
    finally:
        await server.stop()
    return 1 if protocol.exit_status is None else protocol.exit_status


async def _serve_tcp(server: TabwiseLanguageServer, host: str, port: int) -> int:
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve_first(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if server.protocol.writer is not None:
            writer.close()
            return
        server.protocol.set_writer(writer)
        messages: Messages = asyncio.Queue()
        reading = asyncio.create_task(_read_stream(reader, messages))
        try:
            done.set_result(await _serve(server, messages))
        finally:
            reading.cancel()
            writer.close()

    listener = await asyncio.start_server(serve_first, host, port)
    _announce(listener.sockets[0].getsockname())
    try:
        return await done
    finally:
        listener.close()


async def _read_stream(reader: asyncio.StreamReader, messages: Messages) -> None:
    framer = Framer()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(READ_BYTES):
            for body in framer.feed(data):
                messages.put_nowait(body)
    messages.put_nowait(None)


async def _serve_websocket(server: TabwiseLanguageServer, host: str, port: int) -> int:
    from aiohttp import web

    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve_first(request: web.Request) -> web.WebSocketResponse:
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            raise web.HTTPForbidden(reason="pages of other origins may not connect")
        if server.protocol.writer is not None:
            raise web.HTTPConflict(reason="this language server has its client")
        socket = web.WebSocketResponse(max_msg_size=64_000_000)
        await socket.prepare(request)
        writer = _SocketWriter(socket.send_str, socket.close)
        server.protocol.set_writer(writer, include_headers=False)
        messages: Messages = asyncio.Queue()
        reading = asyncio.create_task(_read_socket(socket, messages))
        try:
            done.set_result(await _serve(server, messages))
        finally:
            reading.cancel()
        return socket

    app = web.Application()
    app.router.add_get("/", serve_first)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        _announce(runner.addresses[0])
        return await done
    finally:
        await runner.cleanup()


class _SocketWriter:
    """pygls' writer over a WebSocket."""

    def __init__(
        self,
        send: Callable[[str], Awaitable[None]],
        close: Callable[[], Awaitable[bool]],
    ) -> None:
        self._send = send
        self._close = close

    def write(self, data: bytes) -> Awaitable[None]:
        return self._send(data.decode("utf-8"))

    async def close(self) -> None:
        await self._close()


async def _read_socket(socket: web.WebSocketResponse, messages: Messages) -> None:
    from aiohttp import WSMsgType

    async for message in socket:
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            data = message.data
            messages.put_nowait(data.encode() if isinstance(data, str) else data)
    messages.put_nowait(None)


def _announce(address: tuple[str, int]) -> None:
    """Say where, for whoever asked for port 0."""
    print(f"listening on {address[0]}:{address[1]}", file=sys.stderr, flush=True)

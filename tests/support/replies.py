"""A server that answers every request with what a test wrote down, byte for byte."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs

Reply = Callable[["Request"], bytes]


@attrs.define
class Request:
    """One request as it came. target: as the request line has it."""

    method: str
    target: str
    headers: dict[str, str]
    body: Any


@attrs.define
class ReplyServer:
    """reply: the whole answer to a request. hold: keep the connection open after it,
    as a server does that is still generating; `left` counts clients that then went."""

    reply: Reply
    url: str = ""
    port: int = 0
    hold: bool = False
    requests: list[Request] = attrs.Factory(list)
    left: asyncio.Semaphore = attrs.Factory(lambda: asyncio.Semaphore(0))

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            request = await read_request(reader)
            self.requests.append(request)
            writer.write(self.reply(request))
            await writer.drain()
            if self.hold and not await reader.read():
                self.left.release()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            self.left.release()
        finally:
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    pairs = (line.partition(": ") for line in head[1:] if line)
    headers = {name.lower(): value for name, _, value in pairs}
    data = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, json.loads(data) if data else None)


def answer(
    body: Any, status: str = "200 OK", kind: str = "application/json", **headers: str
) -> bytes:
    """An HTTP answer; body: JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(data)}", "", ""]
    return "\r\n".join(lines).encode() + data


def events(*given: Any, done: bool = True) -> bytes:
    """A stream of server-sent events, which ends with the connection."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close"
    data = [f"data: {json.dumps(event)}\n\n" for event in given]
    return f"{head}\r\n\r\n{''.join(data)}{'data: [DONE]' * done}\n\n".encode()


@contextlib.asynccontextmanager
async def reply_server(
    reply: Reply | bytes, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ReplyServer]:
    running = ReplyServer((lambda _: reply) if isinstance(reply, bytes) else reply)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0, ssl=tls)
    running.port = server.sockets[0].getsockname()[1]
    running.url = f"{'https' if tls else 'http'}://localhost:{running.port}"
    try:
        yield running
    finally:
        server.close()

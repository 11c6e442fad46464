"""Our HTTP client against a scripted backend."""

import asyncio

import pytest

from support.scripted_backend import ScriptedBackend
from tabwise_server.backends.http import Endpoint
from tabwise_server.backends.protocol import ConnectionLost, Status
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.errors import (
    BackendUnavailable,
    BadRequest,
    DeadlineExceeded,
    Overloaded,
    TabwiseError,
    Unauthorized,
)
from tabwise_server.wire import CompletionRequest

REQUEST = CompletionRequest(prefix="x = ", session="doc")


async def test_a_completion_comes_back_and_the_request_arrives_whole(
    scripted: ScriptedBackend,
) -> None:
    backend = TabwiseBackend(Endpoint(scripted.url))
    assert (await backend.complete(REQUEST)).text == "suggested()"
    assert scripted.requests == [REQUEST]
    assert (await backend.health()).ready
    await backend.close()


async def test_cancelling_closes_the_request_so_that_the_server_stops(
    scripted: ScriptedBackend,
) -> None:
    scripted.gate.clear()
    backend = TabwiseBackend(Endpoint(scripted.url))
    task = asyncio.create_task(backend.complete(REQUEST))
    await scripted.wait_for(lambda: len(scripted.requests) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await scripted.wait_for(lambda: scripted.cancelled == 1)
    await backend.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Unauthorized),
        (422, BadRequest),
        (429, Overloaded),
        (500, BackendUnavailable),
        (503, Overloaded),
        (504, DeadlineExceeded),
    ],
)
async def test_each_refusal_becomes_its_error(
    scripted: ScriptedBackend, status: int, error: type[TabwiseError]
) -> None:
    scripted.status = status
    backend = TabwiseBackend(Endpoint(scripted.url))
    with pytest.raises(error, match="as the test wants it"):
        await backend.complete(REQUEST)
    await backend.close()


async def test_a_server_that_never_answers_costs_no_more_than_the_deadline(
    scripted: ScriptedBackend,
) -> None:
    scripted.gate.clear()
    backend = TabwiseBackend(Endpoint(scripted.url))
    hurried = CompletionRequest(prefix="x", deadline_ms=10)
    with pytest.raises(DeadlineExceeded):
        await backend.complete(hurried)
    await backend.close()


async def test_nobody_there_is_a_lost_connection_and_an_offline_status() -> None:
    seen: list[Status] = []
    backend = TabwiseBackend(Endpoint("http://127.0.0.1:9"), on_status=seen.append)
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:9"):
        await backend.complete(REQUEST)
    assert [status.state for status in seen] == ["offline"]
    await backend.close()


async def test_the_environments_proxy_is_not_used_for_loopback(
    scripted: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    backend = TabwiseBackend(Endpoint(scripted.url))
    assert (await backend.complete(REQUEST)).text == "suggested()"
    await backend.close()


async def test_something_else_on_that_port_is_called_what_it_is() -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    backend = TabwiseBackend(Endpoint(f"http://127.0.0.1:{port}"))
    with pytest.raises(BackendUnavailable, match="not such a backend"):
        await backend.complete(REQUEST)
    await backend.close()
    server.close()

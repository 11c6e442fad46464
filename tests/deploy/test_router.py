"""The cluster's nginx before scripted backends: what it asks again, passes on at once,
and leaves alone."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import attrs
import pytest
from aiohttp import web

from tabwise_server.backends.http import SESSION_HEADER, Endpoint
from tabwise_server.backends.openai import OpenAIBackend
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.backends.templates import TEMPLATES
from tabwise_server.capacity.fleet import running_router
from tabwise_server.errors import TabwiseError
from tabwise_server.wire import CompletionRequest

pytestmark = pytest.mark.skipif(
    not (shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")),
    reason="nginx is not installed (Debian: apt-get install nginx)",
)

Act = Callable[[web.Request], Awaitable[web.StreamResponse]]


@attrs.define
class Scripted:
    """A backend; `requests` are those that reached it."""

    act: Act
    requests: list[web.Request] = attrs.Factory(list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await self.act(request)


async def good(request: web.Request) -> web.StreamResponse:
    return web.json_response({"body": len(await request.read())})


async def full(request: web.Request) -> web.StreamResponse:
    return web.json_response({}, status=503, headers={"Retry-After": "1"})


async def wrong(request: web.Request) -> web.StreamResponse:
    return web.json_response({}, status=500)


async def breaks_at_once(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def breaks_midway(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"first")
    assert request.transport is not None
    request.transport.close()
    return response


@contextlib.asynccontextmanager
async def routed(*acts: Act) -> AsyncIterator[tuple[str, list[Scripted]]]:
    """nginx before one scripted backend for each act; its address."""
    async with contextlib.AsyncExitStack() as stack:
        backends = [Scripted(act) for act in acts]
        for backend in backends:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", backend.answer)
            runner = web.AppRunner(app, shutdown_timeout=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            backend.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        urls = [backend.url for backend in backends]
        url, _ = await stack.enter_async_context(running_router(urls))
        yield url, backends


async def post(url: str, session: str) -> int:
    headers = {SESSION_HEADER: session}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/complete", data=b"x" * 10_000, headers=headers) as answer,
    ):
        return answer.status


@pytest.mark.parametrize("bad", [full, breaks_at_once])
async def test_what_failed_before_its_first_byte_goes_on_to_another(bad: Act) -> None:
    async with routed(bad, good) as (url, [first, _]):
        statuses = [await post(url, f"session {n}") for n in range(20)]
        assert set(statuses) == {200}
        assert len(first.requests) >= 3  # it never was taken out


async def test_an_error_of_the_request_itself_is_not_asked_again() -> None:
    async with routed(wrong, wrong) as (url, backends):
        assert await post(url, "one") == 500
        assert sum(len(backend.requests) for backend in backends) == 1


async def test_when_all_are_full_the_client_is_told_when_to_come_back() -> None:
    async with routed(full, full, full) as (url, backends):
        async with aiohttp.ClientSession() as http, http.post(url) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
        assert [len(backend.requests) for backend in backends] == [1, 1, 1]


async def test_an_answer_that_breaks_midway_is_not_begun_again() -> None:
    async with routed(breaks_midway, breaks_midway) as (url, backends):
        with pytest.raises(aiohttp.ClientPayloadError):
            async with aiohttp.ClientSession() as http, http.post(url) as answer:
                await answer.read()
        assert sum(len(backend.requests) for backend in backends) == 1


async def test_streamed_tokens_pass_on_before_the_next_is_there() -> None:
    seen = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await asyncio.wait_for(seen.wait(), 30)
        await response.write(b"data: two\n\n")
        return response

    async with (
        routed(stream) as (url, _),
        aiohttp.ClientSession() as http,
        http.post(url) as answer,
    ):
        assert await answer.content.readany() == b"data: one\n\n"
        seen.set()  # only now does the backend write on
        assert await answer.content.read() == b"data: two\n\n"


async def test_a_session_has_one_backend_and_sessions_have_many() -> None:
    async with routed(good, good, good) as (url, backends):
        for _ in range(3):
            for session in range(30):
                await post(url, f"session {session}")
        homes = [
            {request.headers[SESSION_HEADER] for request in backend.requests}
            for backend in backends
        ]
        assert sum(len(home) for home in homes) == 30  # none has two
        assert all(homes)


async def test_every_client_names_its_session() -> None:
    request = CompletionRequest(prefix="x", session="one")
    async with routed(good) as (url, [backend]):
        for client in (
            TabwiseBackend(Endpoint(url)),
            OpenAIBackend(Endpoint(url), "tabwise", TEMPLATES["tabwise"]),
        ):
            with contextlib.suppress(TabwiseError):  # this is no completion
                await client.complete(request)
            await client.close()
        names = [one.headers[SESSION_HEADER] for one in backend.requests]
        assert names == ["one", "one"]

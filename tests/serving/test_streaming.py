"""A stream's work ends with its stream."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from support.backend import HeldRunner, running_backend, until
from tabwise_model.request import Generation, Progress
from tabwise_server.serving.admission.limits import LATE_S
from tabwise_server.serving.apis.streaming import Piece, answer_events


async def test_work_stops_when_a_write_finds_nobody() -> None:
    stopped = asyncio.Event()

    async def start(progress: Callable[[Progress], None]) -> Generation:
        progress(Progress(b"x", (1,), (0.0,), (0,)))
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    def events(_: int, piece: Piece | Generation) -> list[Any]:
        raise ConnectionResetError

    request = web.Request.__new__(web.Request)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tabwise_server.serving.apis.streaming._begin", _no_response)
        with pytest.raises(ConnectionResetError):
            await answer_events(request, [start], events)
    async with asyncio.timeout(5):
        await stopped.wait()


async def test_a_client_that_does_not_read_is_sent_away_and_its_work_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = HeldRunner()

    async def never(self: web.StreamResponse, data: bytes) -> None:
        await asyncio.Event().wait()

    async with running_backend(runner, write_timeout_s=0.05) as backend:
        runner.hold(after=8)  # or all might be done before the client is given up
        body = {"prompt": "x = ", "max_tokens": 400, "stream": True, "temperature": 0}
        with monkeypatch.context() as patch:
            patch.setattr(web.StreamResponse, "write", never)
            with pytest.raises(aiohttp.ClientError):
                async with backend.http.post(
                    f"{backend.url}/v1/completions", json=body
                ) as response:
                    await response.read()
            runner.release()
            counters = backend.keeper.model.engine.counters
            await until(lambda: counters.cancelled == 1)
        assert backend.service.places.taken == 0
        assert await backend.metric("tabwise_client_disconnects_total") == 1


async def test_who_leaves_a_stream_that_has_begun_has_not_waited_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(self: web.StreamResponse, data: bytes) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(web.StreamResponse, "write", never)
    async with running_backend(HeldRunner(), max_queue=40) as backend:
        body = {"prompt": "x = ", "stream": True, "temperature": 0}
        async with backend.http.post(f"{backend.url}/v1/completions", json=body):
            await asyncio.sleep(2 * LATE_S)
        await until(lambda: backend.service.places.taken == 0)
        assert await backend.metric("tabwise_client_disconnects_total") == 1
        assert backend.service.places.room == 40


async def _no_response(request: web.Request) -> web.StreamResponse:
    return web.StreamResponse()


async def test_a_stream_that_ends_in_an_error_is_counted_as_one() -> None:
    runner = HeldRunner()
    async with running_backend(runner) as backend:
        runner.hold(after=8)
        body = {"prompt": "x = ", "max_tokens": 400, "stream": True, "temperature": 0}
        async with backend.http.post(
            f"{backend.url}/v1/completions", json=body
        ) as response:
            assert await response.content.readline()
            runner.fail_next = RuntimeError("no memory")
            runner.release()
            assert "engine_failed" in await response.text()
        for name, count in (
            ('code_completion_requests_total{status="success"}', 0),
            ('code_completion_requests_total{status="error"}', 1),
            ('tabwise_rejected_requests_total{reason="engine_failed"}', 1),
            ("code_completion_duration_seconds_count", 0),
        ):
            assert await backend.metric(name) == count

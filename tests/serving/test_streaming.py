"""A stream's work ends with its stream."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tabwise_model.request import Generation, Progress
from tabwise_server.serving.apis.streaming import Piece, answer_events


async def test_work_stops_when_a_write_finds_nobody() -> None:
    stopped = asyncio.Event()

    async def start(progress: Callable[[Progress], None]) -> Generation:
        progress(Progress(b"x", (1,), (0.0,)))
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


async def _no_response(request: web.Request) -> web.StreamResponse:
    return web.StreamResponse()

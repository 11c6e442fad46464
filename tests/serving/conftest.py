"""A backend on a real port of this machine, over the hash runner or a real model."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web

from support.models import random_checkpoint
from support.runners import HashRunner
from tabwise_server.serving.app import make_app
from tabwise_server.serving.service import CompletionService
from tabwise_server.settings import ServeSettings


@attrs.define
class Backend:
    """A running backend, and a client that talks to it."""

    service: CompletionService
    runner: Any
    url: str
    client: aiohttp.ClientSession

    async def post(self, path: str, body: Any, **options: Any) -> tuple[int, Any]:
        async with self.client.post(self.url + path, json=body, **options) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        async with self.client.get(self.url + path, **options) as answer:
            return answer.status, await answer.text()

    async def metric(self, name: str) -> float:
        _, text = await self.get("/metrics")
        lines = (line.rpartition(" ") for line in text.splitlines())
        return next(float(value) for key, _, value in lines if key == name)


StartBackend = Callable[..., Awaitable[Backend]]


@pytest.fixture
async def start_backend() -> AsyncIterator[StartBackend]:
    """Starts backends, as `tabwise serve` does, and stops them after the test."""
    started: list[tuple[web.AppRunner, aiohttp.ClientSession]] = []

    async def start(runner: Any = None, **settings: Any) -> Backend:
        runner = runner or HashRunner(slot_tokens=64)
        chosen = ServeSettings(**settings)
        service = CompletionService(random_checkpoint("llama"), runner, chosen)
        app = web.AppRunner(make_app(service, chosen), handler_cancellation=True)
        await app.setup()
        await web.TCPSite(app, "127.0.0.1", 0).start()
        client = aiohttp.ClientSession()
        started.append((app, client))
        url = f"http://127.0.0.1:{app.addresses[0][1]}"
        return Backend(service, runner, url, client)

    yield start
    for app, client in started:
        await client.close()
        await app.cleanup()

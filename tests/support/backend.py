"""The real backend over a real socket, with a runner that the test holds."""

import asyncio
import contextlib
import math
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp
import attrs
import numpy as np
from aiohttp import web

from support.models import LLAMA
from support.runners import HashRunner
from support.tokenizer import TOKENIZER
from tabwise_model.checkpoint import Checkpoint
from tabwise_model.runners.protocol import Chunk, Logits, Runner
from tabwise_server.serving.app import make_app, make_runner
from tabwise_server.serving.engine.keeper import Keeper
from tabwise_server.serving.engine.model import ServedModel
from tabwise_server.serving.service import CompletionService
from tabwise_server.settings import ServeSettings

CONFIG = attrs.evolve(LLAMA, block_size=512)
FAKE = Checkpoint(config=CONFIG, tokenizer=TOKENIZER, tensors={}, name="fake")


class HeldRunner(HashRunner):
    """A HashRunner whose steps wait while it is held, and never choose to end."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("slot_tokens", CONFIG.block_size)
        super().__init__(config=CONFIG, **options)
        self._changed = threading.Condition()
        self._free_steps = math.inf  # how many more pass before they wait
        self.entered = threading.Event()  # set when a step begins

    def extend(self, chunks: Sequence[Chunk]) -> Logits:
        self.entered.set()
        with self._changed:
            going = self._changed.wait_for(lambda: self._free_steps > 0, 60)
            assert going, "the test never released the runner"
            self._free_steps -= 1
        logits = super().extend(chunks)
        logits[:, sorted(TOKENIZER.sentinels)] = -np.inf
        return logits

    def hold(self, after: int = 0) -> None:
        """Let `after` more steps pass; those after them wait for `release`."""
        with self._changed:
            self._free_steps = after
        self.entered.clear()

    def release(self) -> None:
        with self._changed:
            self._free_steps = math.inf
            self._changed.notify_all()


@attrs.define
class RunningBackend:
    url: str
    service: CompletionService
    keeper: Keeper
    http: aiohttp.ClientSession
    runner: web.AppRunner

    async def post(
        self, path: str, body: Any = None, **options: Any
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer; `data` in options sends raw bytes."""
        if "data" not in options:
            options["json"] = body
        async with self.http.post(self.url + path, **options) as response:
            return response.status, await response.json()

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        async with self.http.get(self.url + path, **options) as response:
            return response.status, await response.text()

    async def metric(self, name: str) -> float:
        """The value of one sample of /metrics."""
        _, text = await self.get("/metrics")
        lines = [one for one in text.splitlines() if one.startswith(f"{name} ")]
        assert len(lines) == 1, f"{name} in:\n{text}"
        return float(lines[0].rpartition(" ")[2])


@contextlib.asynccontextmanager
async def running_backend(
    runner: Runner,
    checkpoint: Checkpoint | None = None,
    *,
    read: Callable[[], Checkpoint] | None = None,
    build: Callable[[Checkpoint], ServedModel] | None = None,
    **options: Any,
) -> AsyncIterator[RunningBackend]:
    """A backend on a free port. read, build: see `Keeper`; without them, the same
    again. options: those of ServeSettings; no answer is cached unless they say so."""
    settings = ServeSettings(**{"response_cache_bytes": 0, **options})
    checkpoint = checkpoint or FAKE
    model = ServedModel(checkpoint, runner, settings.prefill_chunk)
    keeper = Keeper(
        model,
        read or (lambda: checkpoint),
        build or (lambda fresh: ServedModel(fresh, runner)),
        settings.stall_s,
    )
    service = CompletionService(keeper, settings)
    app_runner = make_runner(make_app(service, settings))
    await app_runner.setup()
    try:
        site = web.TCPSite(app_runner, "127.0.0.1", 0)
        await site.start()
        port = app_runner.addresses[0][1]
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{port}"
            yield RunningBackend(url, service, keeper, http, app_runner)
    finally:
        await app_runner.cleanup()


async def entered(runner: HeldRunner) -> None:
    """Return once the engine stands in a step of the held runner."""
    assert await asyncio.to_thread(runner.entered.wait, 30)


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return once `condition` holds; fail when it does not come to hold."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a thread or a peer makes it true
            await asyncio.sleep(0.005)

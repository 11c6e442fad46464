"""A backend whose engine is a script: it answers what a test tells it, over real HTTP,
and keeps what it was asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import attrs
from aiohttp import web

from tabwise_server.wire import (
    CompletionRequest,
    CompletionResponse,
    Timings,
    structure,
    unstructure,
)

Script = Callable[[CompletionRequest], str]


def response(text: str) -> CompletionResponse:
    return CompletionResponse(
        text=text,
        finish="line",
        tokens=1,
        mean_logprob=-0.1,
        min_logprob=-0.1,
        prompt_tokens=1,
        cached_tokens=0,
        model="scripted",
        timings=Timings(queue_ms=0, prefill_ms=0, decode_ms=0, latency_ms=0),
    )


@attrs.define
class ScriptedBackend:
    """answer: the completion of a request; finish: what else its answer says. While
    `gate` is cleared, answers wait. says: of its health."""

    answer: Script = lambda request: "suggested()"
    finish: Callable[[CompletionResponse], CompletionResponse] = lambda whole: whole
    url: str = ""
    says: dict[str, object] = attrs.Factory(
        lambda: {"status": "healthy", "model_loaded": True}
    )
    status: int = 200
    requests: list[CompletionRequest] = attrs.Factory(list)
    cancelled: int = 0
    gate: asyncio.Event = attrs.Factory(asyncio.Event)
    arrived: asyncio.Condition = attrs.Factory(asyncio.Condition)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with self.arrived:
            await self.arrived.wait_for(condition)

    async def complete(self, request: web.Request) -> web.Response:
        wanted = structure(CompletionRequest, await request.json())
        self.requests.append(wanted)
        await self._tell()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await self._tell()
            raise
        if self.status != 200:
            error = {"message": "as the test wants it"}
            return web.json_response({"error": error}, status=self.status)
        whole = self.finish(response(self.answer(wanted)))
        return web.json_response(unstructure(whole))

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response(self.says)

    async def _tell(self) -> None:
        async with self.arrived:
            self.arrived.notify_all()


@contextlib.asynccontextmanager
async def scripted_backend() -> AsyncIterator[ScriptedBackend]:
    """A scripted backend on a free port, its gate open."""
    backend = ScriptedBackend()
    backend.gate.set()
    app = web.Application()
    app.router.add_post("/v1/tabwise/complete", backend.complete)
    app.router.add_get("/health", backend.health)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    backend.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield backend
    finally:
        backend.gate.set()
        await runner.cleanup()

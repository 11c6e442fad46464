"""The routes' handlers: read, delegate, answer."""

from __future__ import annotations

import os
import time

from aiohttp import web

from tabwise_server import __version__
from tabwise_server.errors import EngineFailed, Overloaded
from tabwise_server.serving.admission.limits import Draining
from tabwise_server.serving.admission.receiving import a_place, read_json
from tabwise_server.serving.app_keys import SERVICE
from tabwise_server.serving.observing.metrics import CONTENT_TYPE
from tabwise_server.wire import CodeRequest, CompletionRequest, structure, unstructure

STALLED_S = 10.0  # an engine whose step takes so long is wedged


async def complete(request: web.Request) -> web.Response:
    """POST /v1/tabwise/complete"""
    async with a_place(request) as received:
        wanted = structure(CompletionRequest, await read_json(request))
        answer = await request.app[SERVICE].complete(wanted, received)
        return web.json_response(unstructure(answer))


async def complete_code(request: web.Request) -> web.Response:
    """POST /complete"""
    async with a_place(request) as received:
        wanted = structure(CodeRequest, await read_json(request))
        answer = await request.app[SERVICE].complete_code(wanted, received)
        return web.json_response(unstructure(answer))


async def health(request: web.Request) -> web.Response:
    """GET /health: what is served here."""
    service = request.app[SERVICE]
    return web.json_response(
        {
            "status": "draining" if service.places.draining else "healthy",
            "model_loaded": service.ready,
            "device": service.device,
            "model": service.checkpoint.name,
            "sha256": service.checkpoint.digest,
            "bits": service.checkpoint.bits,
            "version": __version__,
            "context_tokens": service.context_tokens,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - service.started, 1),
        }
    )


async def livez(request: web.Request) -> web.Response:
    """GET /livez: 500 when the engine is wedged or gone."""
    bridge = request.app[SERVICE].bridge
    if not bridge.alive:
        raise EngineFailed("the engine's thread has ended; restart the server")
    if bridge.stalled_s > STALLED_S:
        raise EngineFailed(f"the engine's step has taken {bridge.stalled_s:.0f} s")
    return web.json_response({"status": "alive"})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: 503 before the warm-up decode and while draining."""
    service = request.app[SERVICE]
    if service.places.draining:
        raise Draining("draining")
    if not service.ready:
        raise Overloaded("starting")
    return web.json_response({"status": "ready"})


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics"""
    return web.Response(
        body=request.app[SERVICE].metrics.render(),
        headers={"Content-Type": CONTENT_TYPE},
    )

"""How the server is: for people, for orchestrators, for Prometheus."""

from __future__ import annotations

import os
import time

from aiohttp import web

from tabwise_server import __version__
from tabwise_server.errors import Overloaded
from tabwise_server.serving.admission.limits import Draining
from tabwise_server.serving.app_keys import SERVICE
from tabwise_server.serving.observing.metrics import CONTENT_TYPE


def add_health(app: web.Application) -> None:
    app.router.add_get("/health", health)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)


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
    """GET /livez: 500 while the engine hangs or is gone."""
    request.app[SERVICE].engines.check_alive()
    return web.json_response({"status": "alive"})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: 503 before the warm-up decode, while draining, and while the engine
    does not move."""
    service = request.app[SERVICE]
    if service.places.draining:
        raise Draining("draining")
    if not service.ready:
        raise Overloaded("starting")
    service.engines.check()
    return web.json_response({"status": "ready"})


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics"""
    service = request.app[SERVICE]
    return web.Response(
        body=service.metrics.render(await service.engines.figures()),
        headers={"Content-Type": CONTENT_TYPE},
    )

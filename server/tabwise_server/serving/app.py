"""The HTTP application: routes, errors as JSON, who may ask.

POST /v1/tabwise/complete   our own (wire.CompletionRequest)
POST /complete              the seed's (wire.CodeRequest)
GET  /health /livez /readyz /metrics
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from tabwise_server import __version__
from tabwise_server.errors import (
    BadRequest,
    EngineFailed,
    Overloaded,
    TabwiseError,
    TooLarge,
    Unauthorized,
)
from tabwise_server.serving.service import CompletionService
from tabwise_server.settings import ServeSettings
from tabwise_server.wire import CodeRequest, CompletionRequest, structure, unstructure

logger = logging.getLogger(__name__)

SERVICE = web.AppKey("service", CompletionService)
SETTINGS = web.AppKey("settings", ServeSettings)
OPEN_ROUTES = frozenset(("/health", "/livez", "/readyz"))
STALLED_S = 10.0  # an engine with work and no step for so long is wedged

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(service: CompletionService, settings: ServeSettings) -> web.Application:
    """The application; starting it starts the service's engine and warms it up."""
    app = web.Application(
        middlewares=[_errors, _authorise], client_max_size=settings.max_body_bytes
    )
    app[SERVICE] = service
    app[SETTINGS] = settings
    app.cleanup_ctx.append(_running)
    app.router.add_post("/v1/tabwise/complete", _complete)
    app.router.add_post("/complete", _complete_code)
    app.router.add_get("/health", _health)
    app.router.add_get("/livez", _livez)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    return app


async def _running(app: web.Application) -> AsyncIterator[None]:
    await app[SERVICE].start()
    yield
    await app[SERVICE].stop()


async def _complete(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    async with _counted(request):
        wanted = structure(CompletionRequest, await _read_json(request))
        return web.json_response(unstructure(await service.complete(wanted)))


async def _complete_code(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    async with _counted(request):
        wanted = structure(CodeRequest, await _read_json(request))
        return web.json_response(unstructure(await service.complete_code(wanted)))


async def _health(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    return web.json_response(
        {
            "status": "draining" if service.draining else "healthy",
            "model_loaded": service.ready,
            "device": service.device,
            "model": service.checkpoint.name,
            "sha256": service.checkpoint.digest,
            "bits": service.checkpoint.bits,
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(time.time() - service.started, 1),
        }
    )


async def _livez(request: web.Request) -> web.Response:
    stalled_s = request.app[SERVICE].bridge.stalled_s
    if stalled_s > STALLED_S:
        raise EngineFailed(f"the engine has made no step for {stalled_s:.0f} s")
    return web.json_response({"status": "alive"})


async def _readyz(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    if service.draining or not service.ready:
        raise Overloaded("draining" if service.draining else "starting")
    return web.json_response({"status": "ready"})


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(
        body=request.app[SERVICE].metrics.render(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


@contextlib.asynccontextmanager
async def _counted(request: web.Request) -> AsyncIterator[None]:
    """Hold a place for a completion request and count how it went."""
    service = request.app[SERVICE]
    metrics = service.metrics
    began = time.monotonic()
    status = "error"
    try:
        if service.draining:
            raise Overloaded("the server is shutting down; try another")
        with service.places.reserve(), metrics.active.track_inprogress():
            yield
        status = "success"
    except Overloaded:
        metrics.rejected.labels("draining" if service.draining else "full").inc()
        raise
    finally:
        metrics.requests.labels(status).inc()
        metrics.duration.observe(time.monotonic() - began)


async def _read_json(request: web.Request) -> Any:
    """The body as JSON. Raises BadRequest or TooLarge."""
    try:
        return json.loads(await request.read())
    except web.HTTPRequestEntityTooLarge as error:
        limit = request.app[SETTINGS].max_body_bytes
        raise TooLarge(f"the body is over {limit} bytes", field="body") from error
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"the body is not JSON: {error}", field="body") from error


class InvalidJson(BadRequest):
    status = 400
    code = "invalid_json"


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as JSON with a code and a message; no traceback leaves."""
    try:
        return await handler(request)
    except TabwiseError as error:
        return _error_response(error)
    except web.HTTPException as error:
        return _json_error(
            error.status, "http_error", error.reason, None, error.headers
        )
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return _json_error(
            500, "internal_error", "internal error; see the server's log"
        )


def _error_response(error: TabwiseError) -> web.Response:
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    field = getattr(error, "field", None)
    return _json_error(error.status, error.code, str(error), field, headers)


def _json_error(
    status: int, code: str, message: str, field: str | None = None, headers: Any = None
) -> web.Response:
    body = {"code": code, "message": message, "field": field}
    kept = {k: v for k, v in (headers or {}).items() if k != "Content-Type"}
    return web.json_response(
        {"error": body, "detail": message}, status=status, headers=kept
    )


@web.middleware
async def _authorise(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ask for the key where there is one; refuse pages of other origins."""
    key = request.app[SETTINGS].api_key
    if key is not None and request.path not in OPEN_ROUTES:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
            raise Unauthorized("send the API key as `Authorization: Bearer KEY`")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise ForeignOrigin(f"requests from pages of {origin} are refused")
    return await handler(request)


class ForeignOrigin(TabwiseError):
    status = 403
    code = "foreign_origin"

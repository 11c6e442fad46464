"""The HTTP application, put together.

POST /v1/tabwise/complete   our own (wire.CompletionRequest)
POST /complete              the seed's (wire.CodeRequest)
POST /v1/completions        OpenAI's, with GET /v1/models
POST /infill /completion    llama.cpp's
GET  /health /livez /readyz /metrics
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from tabwise_server.serving.admission.callers import Keys
from tabwise_server.serving.admission.guards import answer_errors, check_caller
from tabwise_server.serving.apis import routes
from tabwise_server.serving.apis.llamacpp import add_llamacpp
from tabwise_server.serving.apis.openai import add_openai
from tabwise_server.serving.apis.playground import add_playground
from tabwise_server.serving.app_keys import KEYS, SERVICE, SETTINGS
from tabwise_server.serving.service import CompletionService
from tabwise_server.settings import ServeSettings


def make_app(service: CompletionService, settings: ServeSettings) -> web.Application:
    """The application; starting it starts the service's engine and warms it up.

    Raises SettingsError for a file of keys that cannot be read.
    """
    app = web.Application(
        middlewares=[answer_errors, check_caller],
        client_max_size=settings.max_body_bytes,
    )
    app[SERVICE] = service
    app[SETTINGS] = settings
    app[KEYS] = Keys(settings)
    app.cleanup_ctx.append(_running)
    app.router.add_post("/v1/tabwise/complete", routes.complete)
    app.router.add_post("/complete", routes.complete_code)
    app.router.add_get("/health", routes.health)
    app.router.add_get("/livez", routes.livez)
    app.router.add_get("/readyz", routes.readyz)
    app.router.add_get("/metrics", routes.metrics)
    add_openai(app)
    add_llamacpp(app)
    add_playground(app)
    return app


def make_runner(app: web.Application) -> web.AppRunner:
    """The runner of `app`: a client that leaves cancels its handler, and when the
    runner is cleaned up, handlers have `drain_s` to finish."""
    return web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=app[SETTINGS].drain_s,
    )


async def _running(app: web.Application) -> AsyncIterator[None]:
    await app[SERVICE].start()
    yield
    await app[SERVICE].stop()

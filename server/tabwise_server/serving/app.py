"""The HTTP application, put together; docs/backend.md lists its routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from aiohttp import web

from tabwise_server.serving.admission.callers import Keys
from tabwise_server.serving.admission.door import Door
from tabwise_server.serving.admission.guards import answer_errors, check_caller
from tabwise_server.serving.admission.origins import check_origin, tell_browser
from tabwise_server.serving.admission.overload import House, turn_away
from tabwise_server.serving.apis.health import add_health
from tabwise_server.serving.apis.llamacpp import add_llamacpp
from tabwise_server.serving.apis.openai import add_openai
from tabwise_server.serving.apis.openapi import add_openapi
from tabwise_server.serving.apis.ours import add_ours
from tabwise_server.serving.apis.playground import add_playground
from tabwise_server.serving.app_keys import HOUSE, KEYS, SERVICE, SETTINGS
from tabwise_server.serving.observing.logs import WithoutContent
from tabwise_server.serving.observing.requests import tell_id, tell_requests
from tabwise_server.serving.service import CompletionService
from tabwise_server.settings import ServeSettings

MAX_HEADERS, MAX_HEADER_BYTES = 64, 8_190
# A connection that is kept alive, or has not yet brought a whole head.
IDLE_S = 75.0
ANSWER_S = 2.0  # past the draining's end: for the last answers to be written


def make_app(service: CompletionService, settings: ServeSettings) -> web.Application:
    """The application; starting it starts the service's engine and warms it up.

    Raises SettingsError for a file of keys that cannot be read.
    """
    tracing = [] if service.tracing is None else [service.tracing.middleware]
    house = House(service.places, service.metrics)
    guards = [answer_errors, check_origin, check_caller]
    app = web.Application(
        middlewares=[turn_away(house), tell_requests, *tracing, *guards],
        client_max_size=settings.max_body_bytes,
    )
    app[SERVICE] = service
    app[SETTINGS] = settings
    app[KEYS] = Keys(settings)
    app[HOUSE] = house
    service.places.crowded = app[KEYS].several
    app.cleanup_ctx.append(_running)
    app.on_response_prepare.extend((tell_id, tell_browser))
    for add in (add_ours, add_openai, add_llamacpp, add_openapi):
        add(app)
    for add in (add_health, add_playground):
        add(app)
    return app


def make_runner(app: web.Application) -> web.AppRunner:
    """The runner of `app`: a client that leaves cancels its handler, and when the
    runner is cleaned up, handlers have a little more than `drain_s` to finish."""
    parser_log = logging.getLogger(f"{__name__}.http")
    parser_log.addFilter(_WITHOUT_CONTENT)
    return _Runner(
        app,
        handler_cancellation=True,
        access_log=None,
        logger=parser_log,
        shutdown_timeout=app[SETTINGS].drain_s + ANSWER_S,
        keepalive_timeout=IDLE_S,
        max_headers=MAX_HEADERS,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )


class _Runner(web.AppRunner):
    """With a door before each connection."""

    @property
    def server(self) -> Any:
        """What makes a protocol for each connection."""
        make, app = super().server, self.app
        return make and partial(_behind_door, make, app)


def _behind_door(make: Callable[[], asyncio.Protocol], app: web.Application) -> Door:
    most_bytes = app[SETTINGS].max_body_bytes
    return Door(make(), app[HOUSE], most_bytes=most_bytes, within_s=IDLE_S / 2)


_WITHOUT_CONTENT = WithoutContent()


async def _running(app: web.Application) -> AsyncIterator[None]:
    await app[SERVICE].start()
    yield
    await app[SERVICE].stop()

"""What every completion route does first: a place, then the body."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from tabwise_server.errors import BadRequest, TooLarge
from tabwise_server.serving.admission.callers import ANYONE
from tabwise_server.serving.app_keys import CALLER, SERVICE, SETTINGS


class InvalidJson(BadRequest):
    status = 400
    code = "invalid_json"


class SlowBody(BadRequest):
    status = 408
    code = "slow_body"


@contextlib.asynccontextmanager
async def a_place(request: web.Request) -> AsyncIterator[float]:
    """Hold a place for a completion request, and count how it went.

    Gives the time of receipt. A duration is counted only for what succeeds: quick
    refusals would make an overloaded server look fast.
    """
    received = time.monotonic()
    service = request.app[SERVICE]
    metrics = service.metrics
    try:
        caller = request.get(CALLER, ANYONE)
        with service.places.reserve(caller), metrics.active.track_inprogress():
            yield received
    except (asyncio.CancelledError, ConnectionResetError):
        metrics.disconnects.inc()
        raise
    except Exception:
        metrics.requests.labels("error").inc()
        raise
    metrics.requests.labels("success").inc()
    metrics.duration.observe(time.monotonic() - received)


async def read_json(request: web.Request) -> Any:
    """The body as JSON. Raises BadRequest, TooLarge or SlowBody."""
    settings = request.app[SETTINGS]
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            return json.loads(await request.read())
    except web.HTTPRequestEntityTooLarge as error:
        limit = settings.max_body_bytes
        raise TooLarge(f"the body is over {limit} bytes", field="body") from error
    except TimeoutError as error:
        limit_s = settings.body_timeout_s
        raise SlowBody(f"no body after {limit_s:g} s", field="body") from error
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"the body is not JSON: {error}", field="body") from error

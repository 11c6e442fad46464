"""A full house refuses before anything else is looked at, so that refusing ten times
what can be served leaves the processor to those that are."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tabwise_server.errors import Overloaded
from tabwise_server.serving.service import CompletionService

SAID = "all places are taken; try again in a second"
_BODY = json.dumps(
    {"error": {"code": Overloaded.code, "message": SAID, "field": None}, "detail": SAID}
).encode()
_HEADERS = {"Retry-After": "1"}


def turn_away(service: CompletionService) -> Any:
    """The middleware. Everything that is posted needs a place."""
    places, metrics = service.places, service.metrics
    errors = metrics.requests.labels("error")
    refused = metrics.rejected.labels(Overloaded.code)

    @web.middleware
    async def turned_away(
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        full = places.taken >= places.limits.requests and not places.draining
        if not full or request.method != "POST":
            return await handler(request)
        errors.inc()
        refused.inc()
        return web.Response(
            body=_BODY,
            status=Overloaded.status,
            headers=_HEADERS,
            content_type="application/json",
        )

    return turned_away

"""A full house refuses before anything else is looked at, so that refusing ten times
what can be served leaves the processor to those that are."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tabwise_server.errors import Overloaded
from tabwise_server.serving.admission.limits import Places
from tabwise_server.serving.observing.metrics import Metrics

SAID = "all places are taken; try again in a second"
BODY = json.dumps(
    {"error": {"code": Overloaded.code, "message": SAID, "field": None}, "detail": SAID}
).encode()
RETRY_S = "1"


class House:
    """Whether there is room, and how often there was none."""

    def __init__(self, places: Places, metrics: Metrics) -> None:
        self._places = places
        self._errors = metrics.requests.labels("error")
        self._refused = metrics.rejected.labels(Overloaded.code)

    @property
    def full(self) -> bool:
        return self._places.full and not self._places.draining

    def count(self) -> None:
        """One more request that was refused."""
        self._errors.inc()
        self._refused.inc()


def turn_away(house: House) -> Any:
    """The middleware: everything that is posted needs a place. Most find the house full
    at the door already (`door.py`); this is for those that the door cannot judge."""

    @web.middleware
    async def turned_away(
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        if not house.full or request.method != "POST":
            return await handler(request)
        house.count()
        return web.Response(
            body=BODY,
            status=Overloaded.status,
            headers={"Retry-After": RETRY_S},
            content_type="application/json",
        )

    return turned_away

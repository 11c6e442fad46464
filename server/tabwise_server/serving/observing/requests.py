"""Each request by its id: a line in the log with what became of it.

Ids, counts and durations; never a text of the request's or the answer's, and of its
path only which route it is.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from aiohttp import web

logger = logging.getLogger(__name__)

ID_HEADER = "X-Request-Id"
_GOOD_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_PROCESS, _numbers = secrets.token_hex(4), itertools.count(1)
_ID = web.RequestKey("request_id", str)

# What is known of the request that runs in this context; None between requests.
_notes: ContextVar[dict[str, Any] | None] = ContextVar("notes", default=None)


@web.middleware
async def tell_requests(
    request: web.Request,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    """Give each request an id, its client's if that is fit to be logged, and log how it
    went. Refusals for want of room are counted in the metrics and not logged: in an
    overload they would be most of the log."""
    began = time.monotonic()
    given = request.headers.get(ID_HEADER, "")
    name = given if _GOOD_ID.fullmatch(given) else f"{_PROCESS}-{next(_numbers)}"
    request[_ID] = name
    notes: dict[str, Any] = {"request_id": name}
    token = _notes.set(notes)
    status = 499  # the client has left
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        _notes.reset(token)
        if request.method == "POST" and status not in (429, 503):
            took_ms = round((time.monotonic() - began) * 1000, 1)
            notes |= {"route": route_of(request), "status": status, "ms": took_ms}
            logger.info("answered", extra={"notes": notes})


async def tell_id(request: web.Request, response: web.StreamResponse) -> None:
    """A signal of each answer: it carries the request's id, and not our versions."""
    response.headers["Server"] = "tabwise"
    if _ID in request:
        response.headers[ID_HEADER] = request[_ID]


def note(**what: Any) -> None:
    """Say something of the request that runs here; nothing where none does."""
    notes = _notes.get()
    if notes is not None:
        notes.update(what)


def request_id() -> str | None:
    """Of the request that runs here."""
    notes = _notes.get()
    return None if notes is None else notes["request_id"]


def route_of(request: web.Request) -> str:
    """The route as it is declared, which holds nothing that a client wrote."""
    resource = request.match_info.route.resource
    return "unknown" if resource is None else resource.canonical

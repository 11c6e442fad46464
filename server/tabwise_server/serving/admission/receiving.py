"""What every completion route does first: a place, then the body."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import attrs
from aiohttp import web

from tabwise_server.errors import BadRequest, DeadlineExceeded, TooLarge
from tabwise_server.serving.admission.callers import ANYONE
from tabwise_server.serving.admission.limits import Place
from tabwise_server.serving.app_keys import BROKEN, CALLER, SERVICE, SETTINGS, TOLD
from tabwise_server.serving.question import Asker
from tabwise_server.wire import MAX_DEADLINE_MS, MAX_NAME

SESSION_HEADER = "X-Tabwise-Session"
DEADLINE_HEADER = "X-Tabwise-Deadline-Ms"


class InvalidJson(BadRequest):
    status = 400
    code = "invalid_json"


class SlowBody(BadRequest):
    status = 408
    code = "slow_body"


@attrs.frozen(kw_only=True)
class Ticket:
    """A completion request that was let in. received: monotonic seconds."""

    received: float
    asker: Asker
    place: Place

    def until(self, deadline_ms: float | None, session: str | None) -> Asker:
        """The asker by what the body says: whichever deadline is earlier."""
        deadline = self.asker.deadline
        if deadline_ms is not None:
            own = self.received + deadline_ms / 1000
            deadline = own if deadline is None else min(own, deadline)
        session = session or self.asker.session
        return attrs.evolve(self.asker, deadline=deadline, session=session)


@contextlib.contextmanager
def a_place(request: web.Request) -> Iterator[Ticket]:
    """Hold a place for a completion request, and count how it went.

    A duration is counted only for what succeeds: quick refusals would make an
    overloaded server look fast.
    """
    received = time.monotonic()
    metrics = request.app[SERVICE].metrics
    try:
        with holding_place(request) as place, metrics.active.track_inprogress():
            asker = _asker(request, received)
            yield Ticket(received=received, asker=asker, place=place)
    except (asyncio.CancelledError, ConnectionResetError):
        metrics.disconnects.inc()
        raise
    except Exception:
        metrics.requests.labels("error").inc()
        raise
    if BROKEN in request:
        metrics.requests.labels("error").inc()
        return
    metrics.requests.labels("success").inc()
    metrics.duration.observe(time.monotonic() - received)


@contextlib.contextmanager
def holding_place(request: web.Request) -> Iterator[Place]:
    """Hold a place for as many tokens as the body can have, which is not yet read, and
    tell it how that ended: who has not sent all, or was told some, does not wait for
    us. Raises TooMany or Overloaded."""
    service = request.app[SERVICE]
    length = request.content_length
    window = service.context_tokens
    tokens = window if length is None else min(length, window)
    place = service.places.reserve(request.get(CALLER, ANYONE), tokens)
    try:
        yield place
        if BROKEN not in request:
            place.answered()
    except (asyncio.CancelledError, ConnectionResetError, DeadlineExceeded):
        if TOLD not in request and request.content.is_eof():
            place.unanswered()
        raise
    finally:
        place.release()


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


def _asker(request: web.Request, received: float) -> Asker:
    """Who asks, by the headers; the server's own limit is everybody's deadline."""
    session = request.headers.get(SESSION_HEADER)
    if session is not None and len(session) > MAX_NAME:
        raise BadRequest(
            f"{SESSION_HEADER} must be at most {MAX_NAME} long", SESSION_HEADER
        )
    limit_s = request.app[SETTINGS].request_timeout_s
    return Asker(
        owner=request.get(CALLER, ANYONE),
        session=session,
        deadline=received + min(_deadline_s(request), limit_s),
    )


def _deadline_s(request: web.Request) -> float:
    """What DEADLINE_HEADER says; without it, infinite."""
    given = request.headers.get(DEADLINE_HEADER)
    if given is None:
        return float("inf")
    try:
        deadline_ms = float(given)
    except ValueError:
        deadline_ms = float("nan")
    if not 1 <= deadline_ms <= MAX_DEADLINE_MS:
        raise BadRequest(
            f"{DEADLINE_HEADER} must be 1..{MAX_DEADLINE_MS:g}", DEADLINE_HEADER
        )
    return deadline_ms / 1000

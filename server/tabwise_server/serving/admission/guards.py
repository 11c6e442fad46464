"""Who may ask, and how a failure is told. Middlewares around every route."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import web

from tabwise_server.errors import Overloaded, TabwiseError, Unauthorized
from tabwise_server.serving.app_keys import CALLER, KEYS, SERVICE
from tabwise_server.serving.observing.requests import note

logger = logging.getLogger(__name__)

# the playground's page asks for the key itself
PAGES = ("/", "/playground.js", "/playground.css")
OPEN_ROUTES = frozenset(("/health", "/livez", "/readyz", "/openapi.json", *PAGES))

CLIENT_LEFT = 499  # nginx's name for it; only ever seen in an access log

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as JSON with a code and a message; no traceback leaves."""
    try:
        return await handler(request)
    except TabwiseError as error:
        request.app[SERVICE].metrics.rejected.labels(error.code).inc()
        note(error=error.code)
        return _of_ours(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        name = HTTPStatus(error.status).name.lower()
        message = f"{request.method} {request.path}: {error.reason}"
        return _json_error(error.status, name, message, None, error.headers)
    except ConnectionResetError:
        return web.Response(status=CLIENT_LEFT)  # to nobody
    except Exception as error:  # noqa: BLE001 - it must be answered
        # where, not what: an error's text may quote the request
        where = "".join(traceback.format_tb(error.__traceback__))
        kind = type(error).__name__
        logger.error("%s in %s %s\n%s", kind, request.method, request.path, where)
        request.app[SERVICE].metrics.rejected.labels("internal_error").inc()
        said = "internal error; see the server's log"
        return _json_error(500, "internal_error", said)


@web.middleware
async def check_caller(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ask for the key where there is one."""
    if request.path not in OPEN_ROUTES:
        header = request.headers.get("Authorization", "")
        request[CALLER] = request.app[KEYS].caller_of(header)
        note(caller=request[CALLER])
    return await handler(request)


def _of_ours(error: TabwiseError) -> web.Response:
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    field = getattr(error, "field", None)
    return _json_error(error.status, error.code, str(error), field, headers)


def _json_error(
    status: int,
    code: str,
    message: str,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """`error` for programs, and the seed's `detail`."""
    body = {"code": code, "message": message, "field": field}
    kept = {k: v for k, v in (headers or {}).items() if k.lower() != "content-type"}
    return web.json_response(
        {"error": body, "detail": message}, status=status, headers=kept
    )

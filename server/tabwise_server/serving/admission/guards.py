"""Who may ask, and how a failure is told. Middlewares around every route."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web

from tabwise_server.errors import Overloaded, TabwiseError, Unauthorized
from tabwise_server.serving.app_keys import CALLER, KEYS, SERVICE, SETTINGS

logger = logging.getLogger(__name__)

# the playground's page asks for the key itself
PAGES = ("/", "/playground.js", "/playground.css")
OPEN_ROUTES = frozenset(("/health", "/livez", "/readyz", *PAGES))

CLIENT_LEFT = 499  # nginx's name for it; only ever seen in an access log

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ForeignOrigin(TabwiseError):
    """A web page of another origin asks: any page may, a browser sends it along."""

    status = 403
    code = "foreign_origin"


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as JSON with a code and a message; no traceback leaves."""
    try:
        return await handler(request)
    except TabwiseError as error:
        request.app[SERVICE].metrics.rejected.labels(error.code).inc()
        return _of_ours(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        name = HTTPStatus(error.status).name.lower()
        message = f"{request.method} {request.path}: {error.reason}"
        return _json_error(error.status, name, message, None, error.headers)
    except ConnectionResetError:
        return web.Response(status=CLIENT_LEFT)  # to nobody
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        request.app[SERVICE].metrics.rejected.labels("internal_error").inc()
        said = "internal error; see the server's log"
        return _json_error(500, "internal_error", said)


@web.middleware
async def check_caller(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ask for the key where there is one; refuse pages of other origins."""
    settings = request.app[SETTINGS]
    if request.path not in OPEN_ROUTES:
        header = request.headers.get("Authorization", "")
        request[CALLER] = request.app[KEYS].caller_of(header)
    origin = request.headers.get("Origin")
    if origin is not None and not may_ask(
        origin, request.host, settings.allowed_origins
    ):
        raise ForeignOrigin(
            f"requests from pages of {origin} are refused; allowed_origins allows them"
        )
    return await handler(request)


def may_ask(origin: str, host: str, allowed: str) -> bool:
    """Whether a page of `origin` may ask a server that it calls `host`.

    It may if `allowed` names it ("*": any), or if it is the server's own page on this
    machine. That origin and host agree is not enough: a foreign name can be made to
    point to a loopback address (DNS rebinding), and then they do agree.
    """
    names = [name.strip() for name in allowed.split(",")]
    if "*" in names or origin in names:
        return True
    parts = urlsplit(origin)
    return parts.netloc == host and is_loopback(parts.hostname or "")


def is_loopback(name: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _of_ours(error: TabwiseError) -> web.Response:
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
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

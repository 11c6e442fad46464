"""Which web pages may ask: none but our own, unless told."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from tabwise_server.errors import TabwiseError
from tabwise_server.serving.app_keys import SETTINGS

PREFLIGHT_AGE_S = 600
_ALLOWED = web.RequestKey("allowed_origin", str)


class ForeignOrigin(TabwiseError):
    """A web page of another origin asks: any page may, a browser sends it along."""

    status = 403
    code = "foreign_origin"


@web.middleware
async def check_origin(
    request: web.Request,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    """Refuse pages of other origins; answer a browser's question about allowed ones.

    Comes before the key is asked for: a browser asks without it. Raises ForeignOrigin.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return await handler(request)
    allowed = request.app[SETTINGS].allowed_origins
    if not may_ask(origin, request.host, allowed):
        raise ForeignOrigin(
            f"requests from pages of {origin} are refused; allowed_origins allows them"
        )
    request[_ALLOWED] = origin
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in (
        request.headers
    ):
        return web.Response(status=204, headers=_PREFLIGHT)
    return await handler(request)


async def tell_browser(request: web.Request, response: web.StreamResponse) -> None:
    """A signal of each answer: the page that was let in may read it."""
    origin = request.get(_ALLOWED)
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"


_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id, "
    "X-Tabwise-Session, X-Tabwise-Deadline-Ms",
    "Access-Control-Max-Age": str(PREFLIGHT_AGE_S),
}


def may_ask(origin: str, host: str, allowed: str) -> bool:
    """Whether a page of `origin` may ask a server that it calls `host`.

    It may if `allowed` names it ("*": any), or if it is the server's own page on this
    machine. That origin and host agree is not enough: a foreign name can be made to
    point to a loopback address (DNS rebinding), and then they do agree.
    """
    names = [name.strip() for name in allowed.split(",")]
    if "*" in names or origin in names:
        return True
    try:
        parts = urlsplit(origin)
        return parts.netloc == host and is_loopback(parts.hostname or "")
    except ValueError:
        return False


def is_loopback(name: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

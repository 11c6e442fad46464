"""Which addresses code may be sent to, and by way of which proxy. Asks nobody."""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import SplitResult, urlsplit

from tabwise_server.errors import SettingsError


def checked_url(url: str) -> str:
    """`url` as paths can be appended to it. Raises SettingsError for one that is no
    http address or holds a password."""
    parts = split_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            "url must be an address like http://host:8000, got one of scheme "
            f"{parts.scheme or 'none'!r} ([backend])"
        )
    if parts.username or parts.password:
        raise SettingsError(
            f"url must hold no user or password ({parts.hostname}); use api_key = "
            '"env:NAME" or "keyring:service/user" ([backend])'
        )
    return url.rstrip("/")


def split_url(url: str, name: str = "backend.url") -> SplitResult:
    """The parts of the address that `name` is. Raises SettingsError, which repeats no
    user or password, for one that has none, or no port that can be."""
    try:
        parts = urlsplit(url)
        if parts.port != 0:
            return parts
    except ValueError:
        pass  # its words may repeat a password
    raise SettingsError(
        f"{name} must be an address like http://host:8000 or http://[::1]:8000, its "
        f"port 1..65535, got {url.rpartition('@')[2]!r}"
    )


def proxy_for(url: str) -> str | None:
    """The proxy of the environment (or the system) for `url`; none for loopback.

    Raises SettingsError for a SOCKS proxy, which is not spoken here, or no address.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(parts.netloc):
        return None
    known = urllib.request.getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    kind = split_url(proxy, "the environment's proxy").scheme if proxy else "http"
    if kind not in ("http", "https"):
        raise SettingsError(
            f"the environment's proxy for {url} is of kind {kind or 'none'}; only http "
            "proxies are spoken: set HTTPS_PROXY, or NO_PROXY to go without"
        )
    return proxy


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""One HTTP endpoint: its key, TLS, proxy, and its failures as our errors.

Knows no model and no wire form. Redirects are not followed: code goes where the
settings say, and nowhere else.
"""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from tabwise_server.backends.addresses import checked_url, proxy_for
from tabwise_server.backends.protocol import ConnectionLost
from tabwise_server.backends.reading import message_of, read_object
from tabwise_server.errors import (
    BackendUnavailable,
    BadRequest,
    DeadlineExceeded,
    Overloaded,
    SettingsError,
    TabwiseError,
    Unauthorized,
)

# Past a request's own deadline, how long its 504 may take to arrive.
GRACE_S = 0.25
HEALTH_TIMEOUT_S = 5.0
# Balancers hash it, so that a document's requests meet the same backend's cache.
SESSION_HEADER = "X-Tabwise-Session"


@attrs.frozen(kw_only=True)
class Tls:
    """Beside the system's certificate authorities: more of them (ca_file), and what
    this client shows of itself (client_cert; client_key if that file has none)."""

    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None


class Endpoint:
    """Connections to one address, kept alive. Its repr and its errors hold no key."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        connect_timeout_ms: float = 1_000.0,
        tls: Tls | None = None,
    ) -> None:
        """Raises SettingsError for an address, key or certificate that cannot work."""
        self.url = checked_url(url)
        self._headers = _headers(api_key)
        self._connect_timeout_s = connect_timeout_ms / 1000
        self._ssl = make_context(tls or Tls()) if url.startswith("https:") else None
        self._proxy = proxy_for(self.url)
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"

    def session_headers(self, session: str | None) -> dict[str, str]:
        """What names `session` to balancers."""
        return {} if session is None else {SESSION_HEADER: session}

    async def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        total_s: float | None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The answer's JSON object. Raises as `open` does, and BackendUnavailable for
        an answer that is none."""
        async with self.open(method, path, body, total_s, headers) as response:
            return await read_object(response)

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        total_s: float | None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response that is no refusal. Leaving the block before the end of its body
        closes the connection, which tells the server to stop.

        total_s: for all of the block. Raises ConnectionLost, DeadlineExceeded, or the
        error that the status stands for.
        """
        try:
            async with await self._ask(
                method, path, body, total_s, headers
            ) as response:
                if response.status >= 300:
                    raise await self._refusal(response)
                yield response
        except aiohttp.ServerTimeoutError as error:  # while connecting
            raise ConnectionLost(f"{self.url} does not answer") from error
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self.url} took too long") from error
        except aiohttp.ClientSSLError as error:
            raise BackendUnavailable(
                f"{self.url}: {_reason(error)}; backend.ca_file names an authority to "
                "trust"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise ConnectionLost(_unreachable(self.url, error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLost(f"{self.url}: {_reason(error)}") from error

    async def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        total_s: float | None,
        headers: Mapping[str, str] | None,
    ) -> aiohttp.ClientResponse:
        """Once more where the connection broke before an answer: one that was kept from
        the request before is closed by some servers (llama.cpp's) just when it is taken
        again. (aiohttp does so for GET.) Nothing asked here changes anything there."""
        ask = functools.partial(
            self._opened().request,
            method,
            self.url + path,
            json=body,
            headers=headers,
            proxy=self._proxy,
            allow_redirects=False,
        )
        began = time.monotonic()
        try:
            return await ask(timeout=self._timeout(total_s))
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if total_s is not None:
                total_s = max(0.001, total_s - (time.monotonic() - began))
            return await ask(timeout=self._timeout(total_s))

    def _timeout(self, total_s: float | None) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=total_s, sock_connect=self._connect_timeout_s
        )

    async def text(self, path: str, total_s: float = HEALTH_TIMEOUT_S) -> str:
        """The body of GET `path`."""
        async with self.open("GET", path, None, total_s) as response:
            return await response.text()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0, ssl=True if self._ssl is None else self._ssl
            )
            self._session = aiohttp.ClientSession(
                headers=self._headers, trust_env=False, connector=connector
            )
        return self._session

    async def _refusal(self, response: aiohttp.ClientResponse) -> TabwiseError:
        status = response.status
        if status < 400:
            place = response.headers.get("Location", "elsewhere")
            return BackendUnavailable(
                f"{self.url} sends on to {place}; set backend.url to that if right"
            )
        said = message_of(await response.read())
        text = f"{self.url}: {said or f'HTTP status {status}'}"
        if status in (401, 403):
            has_key = "Authorization" in self._headers
            does = "refuses the key" if has_key else "asks for a key"
            what = f"{self.url} {does} ({said or status})"
            return Unauthorized(f"{what}; check backend.api_key")
        if status == 504:
            return DeadlineExceeded(text)
        if status in (429, 503):
            return Overloaded(text, _retry_after_s(response))
        if status < 500:
            return BadRequest(text)
        return BackendUnavailable(text)


def make_context(tls: Tls) -> ssl.SSLContext:
    """Verifies servers by the system's authorities and ours. Raises SettingsError."""
    context = ssl.create_default_context()
    try:
        if tls.ca_file is not None:
            context.load_verify_locations(Path(tls.ca_file).expanduser())
    except OSError as error:
        raise SettingsError(
            f"ca_file must be a PEM file of certificates, got {tls.ca_file!r}: "
            f"{_reason(error)} ([backend])"
        ) from error
    if tls.client_cert is None:
        return context
    key = None if tls.client_key is None else Path(tls.client_key).expanduser()
    try:
        context.load_cert_chain(Path(tls.client_cert).expanduser(), key)
    except OSError as error:
        raise SettingsError(
            f"client_cert and client_key must be a PEM certificate and its key, got "
            f"{tls.client_cert!r}: {_reason(error)} ([backend])"
        ) from error
    return context


def _headers(api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    if not api_key.isascii() or not api_key.isprintable():
        raise SettingsError(
            "api_key must be printable ASCII on one line (its value is not shown)"
        )
    return {"Authorization": f"Bearer {api_key}"}


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    given = response.headers.get("Retry-After", "")
    return min(float(given), 60.0) if given.isdecimal() else 1.0


def _unreachable(url: str, error: aiohttp.ClientConnectorError) -> str:
    """What is wrong with an address where no connection comes about."""
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"{url}: the proxy cannot be reached: {_reason(error)}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"{url} cannot be reached: no machine has that name; check backend.url"
    number = error.os_error.errno
    why = os.strerror(number) if number else _reason(error)
    return f"{url} cannot be reached: {why}; is the server running?"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__

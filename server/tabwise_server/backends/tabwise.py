"""Our own backend over HTTP, on this machine or another."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

import aiohttp

from tabwise_server.backends.protocol import (
    ConnectionLost,
    Health,
    Status,
    StatusListener,
    ignore_status,
)
from tabwise_server.errors import (
    BackendUnavailable,
    BadRequest,
    DeadlineExceeded,
    Overloaded,
    TabwiseError,
    Unauthorized,
)
from tabwise_server.wire import (
    CompletionRequest,
    CompletionResponse,
    structure,
    unstructure,
)

# Past a request's own deadline, how long its 504 may take to arrive.
GRACE_S = 0.25
# Balancers hash it, so that a document's requests meet the same backend's cache.
SESSION_HEADER = "X-Tabwise-Session"
HEALTH_TIMEOUT_S = 5.0


class TabwiseBackend:
    """A client of POST /v1/tabwise/complete with connections kept alive.

    The environment's proxies are not used: for a loopback address they are wrong.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        connect_timeout_ms: float = 1_000.0,
        on_status: StatusListener = ignore_status,
    ) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._connect_timeout_s = connect_timeout_ms / 1000
        self._on_status = on_status
        self._session: aiohttp.ClientSession | None = None
        self._salt = secrets.token_bytes(16)

    async def start(self) -> None:
        try:
            await self.health()
        except TabwiseError as error:
            self._on_status(Status("offline", str(error)))
        else:
            self._on_status(Status("ready"))

    async def complete(self, request: CompletionRequest) -> CompletionResponse:
        deadline_s = None
        if request.deadline_ms is not None:
            deadline_s = request.deadline_ms / 1000 + GRACE_S
        try:
            data = await self._call(
                "POST",
                "/v1/tabwise/complete",
                unstructure(request),
                deadline_s,
                self._affinity(request),
            )
        except BackendUnavailable as error:
            self._on_status(Status("offline", str(error)))
            raise
        self._on_status(Status("ready"))
        return structure(CompletionResponse, data)

    async def health(self) -> Health:
        data = await self._call("GET", "/health", None, HEALTH_TIMEOUT_S)
        return Health(
            ready=data.get("model_loaded") is True,
            status=str(data.get("status")),
            device=data.get("device"),
            model=data.get("model"),
            pid=data.get("pid"),
        )

    async def metrics(self) -> str:
        """The backend's metrics in Prometheus' text form."""
        try:
            async with self._open().get(f"{self.url}/metrics") as response:
                return await response.text()
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLost(f"{self.url}: {error}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _affinity(self, request: CompletionRequest) -> dict[str, str]:
        """The session's header, salted: it names no file to whoever logs it, and two
        people who open the same path are two sessions."""
        if request.session is None:
            return {}
        name = hashlib.blake2b(request.session.encode(), key=self._salt, digest_size=8)
        return {SESSION_HEADER: name.hexdigest()}

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        total_s: float | None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(
            total=total_s, sock_connect=self._connect_timeout_s
        )
        try:
            async with self._open().request(
                method, self.url + path, json=body, headers=headers, timeout=timeout
            ) as response:
                data = await _read_json(response)
        except aiohttp.ServerTimeoutError as error:  # while connecting
            raise ConnectionLost(f"{self.url} does not answer") from error
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self.url} took too long") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLost(f"{self.url}: {error}") from error
        if response.status >= 400:
            raise _error_of(response.status, data, self.url)
        return data

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers, trust_env=False
            )
        return self._session


async def _read_json(response: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        data = json.loads(await response.read())
    except ValueError as error:
        raise BackendUnavailable(
            f"{response.url.origin()} is not a Tabwise backend: its answer is not JSON"
        ) from error
    if not isinstance(data, dict):
        raise BackendUnavailable(
            f"{response.url.origin()} is not a Tabwise backend: no JSON object"
        )
    return data


def _error_of(status: int, data: dict[str, Any], url: str) -> TabwiseError:
    error = data.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    text = f"{url}: {message or f'HTTP status {status}'}"
    if status in (401, 403):
        return Unauthorized(f"{text}; set backend.api_key")
    if status == 504:
        return DeadlineExceeded(text)
    if status in (429, 503):
        return Overloaded(text)
    if status < 500:
        return BadRequest(text)
    return BackendUnavailable(text)

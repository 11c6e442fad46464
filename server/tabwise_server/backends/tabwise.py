"""Our own backend over HTTP, on this machine or another."""

from __future__ import annotations

from tabwise_server.backends.http import GRACE_S, HEALTH_TIMEOUT_S, Endpoint
from tabwise_server.backends.protocol import (
    Health,
    Status,
    StatusListener,
    ignore_status,
)
from tabwise_server.errors import BackendUnavailable, TabwiseError
from tabwise_server.wire import (
    CompletionRequest,
    CompletionResponse,
    structure,
    unstructure,
)


class TabwiseBackend:
    """A client of POST /v1/tabwise/complete with connections kept alive."""

    def __init__(
        self, endpoint: Endpoint, on_status: StatusListener = ignore_status
    ) -> None:
        self._endpoint = endpoint
        self._on_status = on_status

    @property
    def url(self) -> str:
        return self._endpoint.url

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
            data = await self._endpoint.call(
                "POST",
                "/v1/tabwise/complete",
                unstructure(request),
                deadline_s,
                self._endpoint.session_headers(request.session),
            )
        except BackendUnavailable as error:
            self._on_status(Status("offline", str(error)))
            raise
        self._on_status(Status("ready"))
        return structure(CompletionResponse, data)

    async def health(self) -> Health:
        data = await self._endpoint.call("GET", "/health", None, HEALTH_TIMEOUT_S)
        return Health(
            ready=data.get("model_loaded") is True and data.get("status") != "draining",
            status=str(data.get("status")),
            device=data.get("device"),
            model=data.get("model"),
            pid=data.get("pid"),
            version=data.get("version"),
            context_tokens=data.get("context_tokens"),
        )

    async def metrics(self) -> str:
        """The backend's metrics in Prometheus' text form."""
        return await self._endpoint.text("/metrics")

    async def close(self) -> None:
        await self._endpoint.close()

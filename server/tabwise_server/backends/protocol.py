"""The seam between whoever wants a completion and whoever computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import attrs

from tabwise_server.errors import BackendUnavailable
from tabwise_server.wire import CompletionRequest, CompletionResponse

State = Literal["starting", "ready", "offline"]


class ConnectionLost(BackendUnavailable):
    """The connection was refused or broke: the process behind it is gone."""


@attrs.frozen
class Status:
    """What an editor's status bar may say; `reason` is for people."""

    state: State
    reason: str | None = None


@attrs.frozen(kw_only=True)
class Health:
    """What /health said. ready: completions can be served now."""

    ready: bool
    status: str
    device: str | None = None
    model: str | None = None
    pid: int | None = None
    version: str | None = None  # of our own backend
    context_tokens: int | None = None  # what its model reads and writes at most


StatusListener = Callable[[Status], None]


def ignore_status(status: Status) -> None:
    """The listener of one who does not want to know."""


class Backend(Protocol):
    """A source of completions. Used from one event loop."""

    async def start(self) -> None:
        """Make ready what takes long, so that the first completion does not wait."""
        ...

    async def complete(self, request: CompletionRequest) -> CompletionResponse:
        """The completion, by request.deadline_ms. Cancelling it cancels the work.

        Raises BackendUnavailable or DeadlineExceeded, and another TabwiseError for
        what the backend refused.
        """
        ...

    async def health(self) -> Health:
        """Raises BackendUnavailable if nobody answers."""
        ...

    async def close(self) -> None: ...

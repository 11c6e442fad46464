"""What the editor is told about the backend: its state once for each change, progress
while a model loads, and one message for one cause.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import attrs
from lsprotocol import types

from tabwise_server.backends.protocol import Status

logger = logging.getLogger(__name__)

STATUS = "$/tabwise/status"
SLOW_MS = 1_000.0
LATEST = 20  # answers that decide on "slow"
PROGRESS_AFTER_S = 0.5  # a backend that is found sooner needs no progress bar

Notify = Callable[[str, Any], None]


@attrs.frozen
class Report:
    """As it is sent. latency: milliseconds, the median of the latest answers."""

    state: str
    reason: str | None = None
    latency: float | None = None


class StatusKeeper:
    """From what backends say and how long they take to what the editor is told."""

    def __init__(self, notify: Notify, progress: Progress) -> None:
        self._notify = notify
        self._progress = progress
        self._backend: Status | None = None
        self._sent: Report | None = None
        self._latencies: deque[float] = deque(maxlen=LATEST)
        self._slow = False
        self._told: set[str] = set()

    @property
    def report(self) -> Report:
        """What holds now."""
        backend = self._backend or Status("starting")
        latency = _median(self._latencies)
        state: str = backend.state
        reason = backend.reason
        if state == "ready" and self._slow:
            state, reason = "slow", f"half of the answers take over {SLOW_MS:g} ms"
        return Report(state, reason, latency)

    def take(self, status: Status) -> bool:
        """Note what the backend says; whether it has come back, perhaps as another."""
        before = self._backend
        if before is not None and before.state == status.state == "ready":
            status = Status("ready", status.reason or before.reason)
        self._backend = status
        if status.state == "starting":
            self._progress.begin_soon()
        else:
            self._progress.end()
        if status.state == "offline":
            self._latencies.clear()
            self._slow = False
        self._send()
        return before is not None and before.state != status.state == "ready"

    def took(self, latency_ms: float) -> None:
        """Note how long one answer of the backend took."""
        self._latencies.append(latency_ms)
        over = sum(latency > SLOW_MS for latency in self._latencies)
        if len(self._latencies) >= LATEST // 2:
            share = over / len(self._latencies)
            self._slow = share >= 0.5 or (self._slow and share > 0.25)
        self._send()

    def tell(self, text: str) -> None:
        """Show a message to the user, the first time for each text."""
        if text not in self._told:
            self._told.add(text)
            logger.warning("%s", text)
            message = types.ShowMessageParams(types.MessageType.Warning, text)
            self._notify(types.WINDOW_SHOW_MESSAGE, message)

    def _send(self) -> None:
        """Tell what holds, if that is something else than before."""
        report, sent = self.report, self._sent
        if sent is None or (report.state, report.reason) != (sent.state, sent.reason):
            self._sent = report
            logger.info("backend %s: %s", report.state, report.reason or "")
            self._notify(STATUS, attrs.asdict(report))


def _median(latencies: Collection[float]) -> float | None:
    """The upper one; without `statistics`, which costs half a megabyte."""
    if not latencies:
        return None
    return round(sorted(latencies)[len(latencies) // 2], 1)


class Progress:
    """The progress bar while a model loads, for clients that show one."""

    def __init__(
        self, notify: Notify, create: Callable[[str], asyncio.Future[Any]]
    ) -> None:
        """create: asks the client for a bar by its token."""
        self._notify = notify
        self._create = create
        self._beginning: asyncio.Task[None] | None = None
        self._shown: str | None = None
        self._count = 0
        self.wanted = False  # by the client's capabilities

    def begin_soon(self) -> None:
        if self.wanted and self._beginning is None:
            self._beginning = asyncio.create_task(self._begin())

    def end(self) -> None:
        if self._beginning is not None:
            self._beginning.cancel()
            self._beginning = None
        if self._shown is not None:
            self._send(self._shown, types.WorkDoneProgressEnd(message="ready"))
            self._shown = None

    async def _begin(self) -> None:
        await asyncio.sleep(PROGRESS_AFTER_S)
        self._count += 1
        token = f"tabwise-{self._count}"
        try:
            await self._create(token)
        except Exception as error:  # noqa: BLE001  a client may refuse, as it likes
            logger.info("no progress bar: %s", type(error).__name__)
            return
        self._shown = token
        self._send(token, types.WorkDoneProgressBegin("Tabwise: loading the model"))

    def _send(self, token: str, value: Any) -> None:
        self._notify(types.PROGRESS, types.ProgressParams(token, value))

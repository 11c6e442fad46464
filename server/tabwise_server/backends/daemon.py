"""The one shared local backend of this user: found, or started.

The running daemon stands in a state file. Whoever finds none starts one under a lock,
so that ten editors starting together end with one. A daemon that died is noticed by
the state file, by its process or by its broken connection, before anybody else on its
port is sent code, and started again, once, within the request's deadline.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import time
from pathlib import Path

import attrs

from tabwise_server.backends.http import Endpoint
from tabwise_server.backends.protocol import (
    ConnectionLost,
    Health,
    Status,
    StatusListener,
    ignore_status,
)
from tabwise_server.backends.spawning import last_words, spawn_daemon
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.daemon_state import (
    DaemonState,
    Stamp,
    exclusive_lock,
    read_state,
    stamp_of,
    state_file,
)
from tabwise_server.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    Overloaded,
    TabwiseError,
)
from tabwise_server.settings import BackendSettings
from tabwise_server.wire import CompletionRequest, CompletionResponse

logger = logging.getLogger(__name__)

POLL_S = 0.05
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0  # between two failed starts


@attrs.frozen
class Daemon:
    """A daemon that was ready when it was found, and a client of it.

    file, stamp: the state file, as it was then.
    """

    file: Path
    stamp: Stamp
    state: DaemonState
    client: TabwiseBackend

    def stands(self) -> bool:
        """Whether it is the running one still, as far as can be told unasked and within
        microseconds, for each keystroke. Where it is not, its port may be anybody's."""
        return stamp_of(self.file) == self.stamp and has_process(self.state.pid)

    async def health(self) -> Health | None:
        """None where somebody else answers, or nobody."""
        try:
            health = await self.client.health()
        except TabwiseError as error:
            logger.debug("daemon %d: %s", self.state.pid, error)
            return None
        return health if health.pid == self.state.pid else None


class DaemonBackend:
    """Completions from the shared daemon, whatever becomes of it meanwhile."""

    def __init__(
        self,
        settings: BackendSettings,
        on_status: StatusListener = ignore_status,
    ) -> None:
        self._settings = settings
        self._on_status = on_status
        self._daemon: Daemon | None = None
        self._left: list[TabwiseBackend] = []  # they may have requests under way
        self._finding: asyncio.Task[Daemon] | None = None
        self._pause_s = FIRST_PAUSE_S
        self._next_try = 0.0
        self._process: subprocess.Popen[bytes] | None = None  # kept to be reaped

    async def start(self) -> None:
        """Find or start the daemon; a failure shows as a status, not as an error."""
        try:
            await self._connect(self._settings.start_timeout_s)
        except TabwiseError as error:
            logger.warning("no daemon: %s", error)

    async def complete(self, request: CompletionRequest) -> CompletionResponse:
        """As Backend.complete; where the daemon is gone, even if somebody else listens
        on its port, another is found or started and asked."""
        ends = time.monotonic() + (request.deadline_ms or 60_000.0) / 1000
        daemon = await self._connect(ends - time.monotonic())
        try:
            return await daemon.client.complete(_due(request, ends))
        except (DeadlineExceeded, Overloaded):
            raise
        except ConnectionLost:
            self._forget(daemon)
        except TabwiseError:
            if await daemon.health():
                raise
            self._forget(daemon)
        daemon = await self._connect(ends - time.monotonic())
        return await daemon.client.complete(_due(request, ends))

    async def health(self) -> Health:
        daemon = await self._connect(self._settings.start_timeout_s)
        return await daemon.client.health()

    async def close(self) -> None:
        """Leave the daemon running, for others and for later."""
        if self._finding is not None:
            self._finding.cancel()
        if self._daemon is not None:
            self._forget(self._daemon)
        for client in self._left:
            await client.close()

    async def _connect(self, patience_s: float) -> Daemon:
        """A ready daemon, or BackendUnavailable after `patience_s`.

        Looking and starting go on for the next caller.
        """
        if self._daemon is not None:
            if self._process is not None:
                self._process.poll()  # a child that ended is a process until then
            if self._daemon.stands():
                return self._daemon
            self._forget(self._daemon)
        if self._finding is None:
            if time.monotonic() < self._next_try:
                raise BackendUnavailable("the daemon did not start; waiting a while")
            self._on_status(Status("starting"))
            self._finding = asyncio.create_task(self._find_or_start())
            self._finding.add_done_callback(self._found)
        finding = self._finding
        await asyncio.wait({finding}, timeout=max(patience_s, 0))
        if not finding.done():
            raise BackendUnavailable("the daemon is starting")
        return finding.result()

    def _found(self, task: asyncio.Task[Daemon]) -> None:
        self._finding = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._daemon = task.result()
            self._pause_s, self._next_try = FIRST_PAUSE_S, 0.0
            self._on_status(Status("ready"))
            return
        self._next_try = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        self._on_status(Status("offline", str(error)))

    def _forget(self, daemon: Daemon) -> None:
        if self._daemon is daemon:
            self._daemon = None
            self._left.append(daemon.client)

    async def _find_or_start(self) -> Daemon:
        ends = time.monotonic() + self._settings.start_timeout_s
        while time.monotonic() < ends:
            daemon = await find_daemon(self._settings, self._on_status)
            if daemon is not None:
                return daemon
            with exclusive_lock("spawn.lock") as mine:
                if mine:
                    return await self._start_one(ends)
            await asyncio.sleep(POLL_S)
        raise BackendUnavailable(
            f"no daemon after {self._settings.start_timeout_s:g} s; run: tabwise doctor"
        )

    async def _start_one(self, ends: float) -> Daemon:
        """Start a daemon and wait until it serves; the caller holds the lock."""
        daemon = await find_daemon(self._settings, self._on_status)
        if daemon is not None:
            return daemon
        process = self._process = spawn_daemon()
        logger.info("started the daemon, pid %d", process.pid)
        while time.monotonic() < ends:
            daemon = await find_daemon(self._settings, self._on_status)
            if daemon is not None:
                return daemon
            if process.poll():  # status 0: another daemon lives, and is loading
                raise BackendUnavailable(
                    f"the daemon ended with status {process.returncode}: "
                    + (last_words() or "it said nothing")
                )
            await asyncio.sleep(POLL_S)
        raise BackendUnavailable("the daemon is not ready yet")


async def find_daemon(
    settings: BackendSettings, on_status: StatusListener = ignore_status
) -> Daemon | None:
    """The running daemon if it is ready to serve, else None."""
    file = state_file()
    stamp = stamp_of(file)
    state = read_state()
    if state is None or not process_exists(state.pid):
        return None
    daemon = Daemon(file, stamp, state, client_of(state, settings, on_status))
    found = False
    try:
        health = await daemon.health()
        found = health is not None and health.ready
    finally:
        if not found:
            await daemon.client.close()
    return daemon if found else None


def client_of(
    state: DaemonState,
    settings: BackendSettings,
    on_status: StatusListener = ignore_status,
) -> TabwiseBackend:
    endpoint = Endpoint(state.url, state.token, settings.connect_timeout_ms)
    return TabwiseBackend(endpoint, on_status)


def process_exists(pid: int) -> bool:
    """Whether a process by this id runs (on Windows, /health alone decides)."""
    return has_process(pid) and not _is_zombie(pid)


def has_process(pid: int) -> bool:
    """As `process_exists`, but for one that has ended and not been waited for."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _is_zombie(pid: int) -> bool:
    """Ended, but not yet waited for by its parent; only Linux can tell us."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[:1] == ["Z"]


def _due(request: CompletionRequest, ends: float) -> CompletionRequest:
    """`request` with the time that is left. Raises DeadlineExceeded if none is."""
    if request.deadline_ms is None:
        return request
    left_ms = (ends - time.monotonic()) * 1000
    if left_ms < 1:
        raise DeadlineExceeded("the deadline passed before the daemon was ready")
    return attrs.evolve(request, deadline_ms=left_ms)

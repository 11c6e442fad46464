"""One run of the server: listen, reload, drain, leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable

from tabwise_server import __version__
from tabwise_server.daemon_state import DaemonState, remove_state, write_state
from tabwise_server.errors import TabwiseError
from tabwise_server.serving.admission.limits import Draining
from tabwise_server.serving.app import make_app, make_runner
from tabwise_server.serving.engine.engines import Engines
from tabwise_server.serving.listening import listen, load_certificate, tls_context
from tabwise_server.serving.service import CompletionService
from tabwise_server.settings import ServeSettings

logger = logging.getLogger(__name__)

MIN_PAUSE_S = 0.1  # between two looks at whether the daemon is idle


class Lifetime:
    """leave: called when draining begins, so that a successor need not wait for the
    last answers."""

    def __init__(
        self,
        engines: Engines,
        settings: ServeSettings,
        leave: Callable[[], None] | None = None,
    ) -> None:
        """Raises SettingsError."""
        self._settings = settings
        self._leave = leave
        self._tls = tls_context(settings)
        self._port = settings.port
        self._told = asyncio.Event()  # to leave
        self._reloading: asyncio.Task[None] | None = None
        self.service = CompletionService(engines, settings)

    async def serve(self) -> None:
        """Serve until told to stop, then drain."""
        self._listen_to_signals()
        runner = make_runner(make_app(self.service, self._settings))
        await runner.setup()
        try:
            self._port = await listen(runner, self._settings, self._tls)
            await self._tell_where()
            await self._until_told()
            self._begin_to_drain()
        finally:
            # stops listening, and waits for those being answered, at most drain_s
            await runner.cleanup()

    async def _tell_where(self) -> None:
        service, settings = self.service, self._settings
        figures = await service.engines.figures()
        logger.info(
            "%s on %s, %d slots: http%s://%s:%d", service.checkpoint.name,
            service.device, figures.slots,
            "s" if self._tls else "", settings.host, self._port,
        )  # fmt: skip
        if settings.daemon:
            write_state(self._state())

    def _begin_to_drain(self) -> None:
        """Take nothing new; what is not done in time is answered all the same."""
        service = self.service
        service.places.draining = True
        logger.info("leaving; %d requests to finish", service.places.taken)
        remove_state(os.getpid())
        if self._leave is not None:
            self._leave()
        over = "the server has shut down; ask another"
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.drain_s, service.engines.close, Draining, over)

    async def _until_told(self) -> None:
        """Return when told, when the engine is beyond help, or, a daemon, after
        `idle_exit_s` without requests (0: never)."""
        gone = asyncio.create_task(self.service.engines.given_up.wait())
        gone.add_done_callback(lambda _: self._told.set())
        idle_exit_s = self._settings.idle_exit_s if self._settings.daemon else 0
        while not self._told.is_set():
            idle = time.monotonic() - self.service.last_request
            if idle_exit_s and idle >= idle_exit_s and not self.service.places.taken:
                logger.info("idle for %.0f s", idle)
                break
            pause = max(idle_exit_s - idle, MIN_PAUSE_S) if idle_exit_s else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), pause)
        gone.cancel()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):  # Windows
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(name, self._stop)
            loop.add_signal_handler(signal.SIGHUP, self._start_reload)

    def _stop(self) -> None:
        """The first signal asks to drain; a second ends the process at once."""
        if self._told.is_set():
            remove_state(os.getpid())
            os._exit(1)
        self._told.set()

    def _start_reload(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        """Serve certificate and checkpoint as they lie now; what cannot be used changes
        nothing and is logged."""
        try:
            if self._tls is not None:
                load_certificate(self._tls, self._settings)
            changed = await self.service.engines.reload()
        except (TabwiseError, TimeoutError) as error:
            logger.error("reloading failed, what was served is: %s", error)
            return
        except Exception:
            logger.exception("reloading failed, what was served is")
            return
        name = self.service.checkpoint.name
        logger.info(
            "reloaded; checkpoint %s is %s", name, "new" if changed else "the same"
        )
        if self._settings.daemon:
            write_state(self._state())

    def _state(self) -> DaemonState:
        assert self._settings.api_key is not None
        return DaemonState(
            pid=os.getpid(),
            port=self._port,
            token=self._settings.api_key,
            started=time.time(),
            version=__version__,
            checkpoint=self.service.checkpoint.digest,
        )

"""`tabwise serve` as a process: load, listen, drain, leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.handlers
import os
import secrets
import signal
import ssl
import time
from collections.abc import Callable

import attrs
from aiohttp import web

from tabwise_model.checkpoint import (
    CheckpointError,
    load_checkpoint,
    resolve_checkpoint,
)
from tabwise_model.runners.choose import NoRunner, load_runner
from tabwise_server import __version__
from tabwise_server.daemon_state import (
    DaemonState,
    exclusive_lock,
    remove_state,
    write_state,
)
from tabwise_server.errors import CheckpointMissing, SettingsError
from tabwise_server.serving.admission.guards import is_loopback
from tabwise_server.serving.app import make_app, make_runner
from tabwise_server.serving.service import CompletionService
from tabwise_server.settings import ServeSettings, state_folder

logger = logging.getLogger(__name__)

LOG_BYTES = 1_000_000
MIN_PAUSE_S = 0.1  # between two looks at whether the daemon is idle


def serve(settings: ServeSettings) -> int:
    """Run the backend until it is told to stop; returns the exit status.

    Raises CheckpointMissing or SettingsError before listening.
    """
    if settings.daemon:
        return _serve_daemon(settings)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if not (settings.api_key or settings.api_keys_file) and not is_loopback(
        settings.host
    ):
        logger.warning("listening on %s without an API key", settings.host)
    asyncio.run(_serve(settings))
    return 0


def _serve_daemon(settings: ServeSettings) -> int:
    with contextlib.ExitStack() as lock:
        if not lock.enter_context(exclusive_lock()):
            return 0  # another daemon lives; whoever asked for one will find it
        _log_to_file()
        daemon = attrs.evolve(
            settings, host="127.0.0.1", port=0, api_key=secrets.token_urlsafe(32)
        )
        try:
            asyncio.run(_serve(daemon, lock.close))
        except Exception:
            logger.exception("the daemon failed")
            raise
        finally:
            remove_state(os.getpid())
    return 0


def load_service(settings: ServeSettings) -> CompletionService:
    """The checkpoint in a runner. Raises CheckpointMissing or SettingsError."""
    try:
        checkpoint = load_checkpoint(resolve_checkpoint(settings.checkpoint))
    except CheckpointError as error:
        raise CheckpointMissing(str(error)) from error
    try:
        runner = load_runner(
            checkpoint,
            runner=settings.runner,
            device=settings.device,
            threads=settings.threads,
            n_slots=settings.slots,
            kv_bytes=settings.kv_bytes,
            slot_tokens=checkpoint.config.block_size,
        )
    except NoRunner as error:
        raise SettingsError(str(error)) from error
    return CompletionService(checkpoint, runner, settings)


async def _serve(
    settings: ServeSettings, leave: Callable[[], None] | None = None
) -> None:
    """Serve until told to stop, then drain. leave: called when draining begins, so
    that a successor need not wait for the last answers."""
    service = load_service(settings)
    told = _listen_to_signals()
    runner = make_runner(make_app(service, settings))
    await runner.setup()
    try:
        port = await _listen(runner, settings)
        logger.info(
            "%s on %s, %d slots: http://%s:%d", service.checkpoint.name,
            service.device, service.engine.runner.n_slots, settings.host, port,
        )  # fmt: skip
        if settings.daemon:
            write_state(_state(service, settings, port))
        await _until_told(told, service, settings.idle_exit_s if settings.daemon else 0)
        service.places.draining = True
        logger.info("leaving; %d requests to finish", service.places.taken)
        remove_state(os.getpid())
        if leave is not None:
            leave()
    finally:
        # stops listening, and waits for those being answered, at most drain_s
        await runner.cleanup()


async def _listen(runner: web.AppRunner, settings: ServeSettings) -> int:
    """Listen; returns the port. Raises SettingsError if it is taken."""
    site = web.TCPSite(
        runner, settings.host, settings.port, ssl_context=tls_context(settings)
    )
    try:
        await site.start()
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "choose another with --port"
        ) from error
    return int(runner.addresses[0][1])


def tls_context(settings: ServeSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with the certificate that is set; None without one. Raises
    SettingsError."""
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"tls_cert {settings.tls_cert} cannot be used: {error}"
        ) from error
    return context


def _listen_to_signals() -> asyncio.Event:
    """The event that SIGTERM and SIGINT set."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(name, _tell, told)
    return told


async def _until_told(
    told: asyncio.Event, service: CompletionService, idle_exit_s: float
) -> None:
    """Return when told, or after `idle_exit_s` without requests (0: never)."""
    while not told.is_set():
        idle = time.monotonic() - service.last_request
        if idle_exit_s and idle >= idle_exit_s and not service.places.taken:
            logger.info("idle for %.0f s", idle)
            return
        pause = max(idle_exit_s - idle, MIN_PAUSE_S) if idle_exit_s else None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), pause)


def _tell(told: asyncio.Event) -> None:
    """The first signal asks to drain; a second ends the process at once."""
    if told.is_set():
        remove_state(os.getpid())
        os._exit(1)
    told.set()


def _state(
    service: CompletionService, settings: ServeSettings, port: int
) -> DaemonState:
    assert settings.api_key is not None
    return DaemonState(
        pid=os.getpid(),
        port=port,
        token=settings.api_key,
        started=time.time(),
        version=__version__,
        checkpoint=service.checkpoint.digest,
    )


def _log_to_file() -> None:
    """Log into the state folder, readable by the user alone (it is 0700)."""
    handler = logging.handlers.RotatingFileHandler(
        state_folder() / "daemon.log", maxBytes=LOG_BYTES, backupCount=1
    )
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", handlers=[handler]
    )
    (state_folder() / "daemon.log").chmod(0o600)

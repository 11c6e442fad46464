"""`tabwise serve` as a process: the engines, then the server before them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.handlers
import os
import secrets
import sys
from collections.abc import Callable

import attrs

from tabwise_server.daemon_state import exclusive_lock, remove_state
from tabwise_server.serving.engine.loading import SWITCH_S, make_engines
from tabwise_server.settings import ServeSettings, state_folder

logger = logging.getLogger(__name__)

LOG_BYTES = 1_000_000


def serve(settings: ServeSettings) -> int:
    """Run the backend until it is told to stop; returns the exit status.

    Raises CheckpointMissing or SettingsError before listening.
    """
    sys.setswitchinterval(SWITCH_S)
    return _serve_daemon(settings) if settings.daemon else _run(settings)


def _serve_daemon(settings: ServeSettings) -> int:
    with contextlib.ExitStack() as lock:
        if not lock.enter_context(exclusive_lock()):
            return 0  # another daemon lives; whoever asked for one will find it
        daemon = attrs.evolve(
            settings, host="127.0.0.1", port=0, api_key=secrets.token_urlsafe(32)
        )
        try:
            return _run(daemon, _log_file(), lock.close)
        except Exception:
            logger.exception("the daemon failed")
            raise
        finally:
            remove_state(os.getpid())


def _run(
    settings: ServeSettings,
    log: logging.Handler | None = None,
    leave: Callable[[], None] | None = None,
) -> int:
    """log: None for stderr; leave: see `Lifetime`."""
    engines = make_engines(settings)
    # by now the engines' processes start, while this one imports the rest
    from tabwise_server.serving.admission.origins import is_loopback
    from tabwise_server.serving.lifetime import Lifetime
    from tabwise_server.serving.observing.logs import configure_logging

    configure_logging(settings.log_format, log)
    keys = settings.api_key or settings.api_keys_file
    if not keys and not is_loopback(settings.host):
        logger.warning("listening on %s without an API key", settings.host)
    asyncio.run(Lifetime(engines, settings, leave).serve())
    if engines.given_up.is_set():
        # an engine that hangs would hang the interpreter's end too
        remove_state(os.getpid())
        logging.shutdown()
        os._exit(1)
    return 0


def _log_file() -> logging.Handler:
    """In the state folder, readable by the user alone (it is 0700)."""
    file = state_folder() / "daemon.log"
    handler = logging.handlers.RotatingFileHandler(
        file, maxBytes=LOG_BYTES, backupCount=1
    )
    file.chmod(0o600)
    # one person's keystrokes need no line each
    logging.getLogger("tabwise_server.serving.observing.requests").setLevel("WARNING")
    return handler

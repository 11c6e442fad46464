"""`tabwise stop`: end the shared daemon."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time

from tabwise_server.backends.daemon import POLL_S, client_of, process_exists
from tabwise_server.daemon_state import (
    DaemonState,
    exclusive_lock,
    read_state,
    remove_state,
)
from tabwise_server.errors import TabwiseError
from tabwise_server.settings import BackendSettings

WINDOWS = os.name == "nt"
PATIENCE_S = 15.0  # longer than the daemon takes to finish its requests


class StillRunning(TabwiseError):
    """The daemon did not end in time, or does not even answer."""

    def __init__(self, pid: int, what: str) -> None:
        kill = "taskkill /F /PID" if WINDOWS else "kill -9"
        super().__init__(f"pid {pid} {what}; end it with: {kill} {pid}")


def configure(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(arguments: argparse.Namespace) -> int:
    state = read_state()
    if state is None or not asyncio.run(is_ours(state)):
        if state is not None:
            remove_state(state.pid)
        print("no daemon is running")
        return 0
    end_process(state.pid)
    remove_state(state.pid)  # Windows ends it before it can
    print(f"stopped the daemon (pid {state.pid})")
    return 0


async def is_ours(state: DaemonState) -> bool:
    """Whether the process by that id really is the daemon, and not a later one.

    Raises StillRunning where a daemon lives and nobody answers: it may be suspended.
    """
    if not process_exists(state.pid):
        return False
    client = client_of(state, BackendSettings())
    try:
        return (await client.health()).pid == state.pid
    except TabwiseError as error:
        if isinstance(error.__cause__, TimeoutError) and daemon_lives():
            raise StillRunning(state.pid, "does not answer") from error
        return False
    finally:
        await client.close()


def daemon_lives() -> bool:
    """Whether some daemon holds the lock; one that is about to end does not."""
    with exclusive_lock() as free:
        return not free


def end_process(pid: int) -> None:
    """Ask it to end and wait. Raises StillRunning."""
    os.kill(pid, signal.SIGTERM)
    ends = time.monotonic() + PATIENCE_S
    while not has_ended(pid):
        if time.monotonic() > ends:
            raise StillRunning(pid, f"did not end within {PATIENCE_S:g} s")
        time.sleep(POLL_S)


def has_ended(pid: int) -> bool:
    """Whether the daemon by this id has; where no process can be told by its id, by the
    lock, which at most a successor holds then."""
    if not WINDOWS:
        return not process_exists(pid)
    state = read_state()
    return not daemon_lives() or (state is not None and state.pid != pid)

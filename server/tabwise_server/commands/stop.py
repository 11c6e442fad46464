"""`tabwise stop`: end the shared daemon."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time

from tabwise_server.backends.daemon import POLL_S, client_of, process_exists
from tabwise_server.daemon_state import DaemonState, read_state, remove_state
from tabwise_server.errors import TabwiseError
from tabwise_server.settings import BackendSettings

PATIENCE_S = 15.0  # longer than the daemon takes to finish its requests


class StillRunning(TabwiseError):
    """The daemon did not end in time."""


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
    print(f"stopped the daemon (pid {state.pid})")
    return 0


async def is_ours(state: DaemonState) -> bool:
    """Whether the process by that id really is the daemon, and not a later one."""
    if not process_exists(state.pid):
        return False
    client = client_of(state, BackendSettings())
    try:
        return (await client.health()).pid == state.pid
    except TabwiseError:
        return False
    finally:
        await client.close()


def end_process(pid: int) -> None:
    """Ask it to end and wait. Raises StillRunning."""
    os.kill(pid, signal.SIGTERM)
    ends = time.monotonic() + PATIENCE_S
    while process_exists(pid):
        if time.monotonic() > ends:
            raise StillRunning(
                f"pid {pid} did not end within {PATIENCE_S:g} s; end it with: "
                f"kill -9 {pid}"
            )
        time.sleep(POLL_S)

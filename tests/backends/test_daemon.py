"""The shared daemon, as those see it who look for it or end it."""

import argparse
import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tabwise_server.commands import stop
from tabwise_server.daemon_state import (
    DaemonState,
    exclusive_lock,
    read_state,
    write_state,
)


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TABWISE_STATE_DIR", str(tmp_path))
    monkeypatch.setattr("tabwise_server.backends.tabwise.HEALTH_TIMEOUT_S", 0.2)
    return tmp_path


def state_at(port: int) -> DaemonState:
    """Of a daemon in a process that lives: this one."""
    return DaemonState(
        pid=os.getpid(), port=port, token="t", started=0.0, version="0", checkpoint="c"
    )


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """The port of one that takes connections and never answers."""

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1") as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("lives", [True, False])
async def test_stop_forgets_a_daemon_that_does_not_answer_only_if_it_is_gone(
    lives: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    async with silent_server() as port:
        write_state(state_at(port))
        with exclusive_lock() if lives else contextlib.nullcontext():
            stopping = asyncio.to_thread(stop.run, argparse.Namespace())
            if lives:
                with pytest.raises(stop.StillRunning, match=f"kill -9 {os.getpid()}"):
                    await stopping
            else:
                assert await stopping == 0
    assert (read_state() is not None) is lives
    assert ("no daemon is running" in capsys.readouterr().out) is not lives

"""The shared daemon, as those see it who look for it or end it."""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.scripted_backend import ScriptedBackend, scripted_backend
from tabwise_server.backends import daemon
from tabwise_server.commands import stop
from tabwise_server.daemon_state import (
    DaemonState,
    exclusive_lock,
    read_state,
    state_file,
    write_state,
)
from tabwise_server.errors import BadRequest
from tabwise_server.settings import BackendSettings
from tabwise_server.wire import CompletionRequest

REQUEST = CompletionRequest(prefix="x = ")
HOLD = (
    "from tabwise_server.daemon_state import exclusive_lock\n"
    "with exclusive_lock() as mine:\n"
    "    print(mine, flush=True)\n"
    "    input()\n"
)


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TABWISE_STATE_DIR", str(tmp_path))
    monkeypatch.setattr("tabwise_server.backends.tabwise.HEALTH_TIMEOUT_S", 0.2)
    return tmp_path


def state_at(port: int, pid: int | None = None) -> DaemonState:
    """Of a daemon in a process that lives: this one, if it is not named."""
    pid = pid or os.getpid()
    return DaemonState(
        pid=pid, port=port, token="t", started=0.0, version="0", checkpoint="c"
    )


def enthrone(scripted: ScriptedBackend, pid: int | None = None) -> None:
    """Make it the running daemon."""
    state = state_at(int(scripted.url.rpartition(":")[2]), pid)
    scripted.says["pid"] = state.pid
    write_state(state)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until the test ends it."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as running:
        yield running


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


def test_stop_ends_a_daemon_whose_process_cannot_be_told_by_its_id(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on Windows, where it also leaves its state file behind."""

    async def is_ours(state: DaemonState) -> bool:
        return True

    monkeypatch.setattr(stop, "WINDOWS", True)
    monkeypatch.setattr(stop, "process_exists", lambda pid: True)
    monkeypatch.setattr(stop, "is_ours", is_ours)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        write_state(state_at(9, holder.pid))
        assert stop.run(argparse.Namespace()) == 0
    assert capsys.readouterr().out == f"stopped the daemon (pid {holder.pid})\n"
    assert read_state() is None


@pytest.mark.parametrize(
    ("happens", "sent"),
    [
        ("its file is gone", 0),
        ("another stands there", 0),
        ("its process is gone", 0),
        (302, 1),
        (401, 1),
        (404, 1),
    ],
)
async def test_a_stranger_on_an_ended_daemons_port_is_not_asked_again(
    scripted: ScriptedBackend,
    process: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    happens: str | int,
    sent: int,
) -> None:
    """What happens: what is seen of the end, or the stranger's status."""
    backend = daemon.DaemonBackend(BackendSettings())
    async with scripted_backend() as successor:

        def start() -> subprocess.Popen[bytes]:
            enthrone(successor)
            return process

        monkeypatch.setattr(daemon, "spawn_daemon", start)
        enthrone(scripted, process.pid)
        await backend.complete(REQUEST)
        scripted.says["pid"] = 0
        if happens == "its file is gone":
            state_file().unlink()
        elif happens == "another stands there":
            enthrone(successor)
        elif happens == "its process is gone":
            process.communicate()
        else:
            scripted.status = int(happens)
        for _ in range(2):
            await backend.complete(REQUEST)
        await backend.close()
        assert (len(scripted.requests), len(successor.requests)) == (1 + sent, 2)


async def test_what_our_own_daemon_refuses_is_refused(
    scripted: ScriptedBackend,
) -> None:
    enthrone(scripted)
    scripted.status = 422
    backend = daemon.DaemonBackend(BackendSettings())
    with pytest.raises(BadRequest):
        await backend.complete(REQUEST)
    assert len(scripted.requests) == 1
    await backend.close()

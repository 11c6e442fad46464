"""`tabwise serve` as a real process."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.checkpoints import save_tiny
from tabwise_server.bench.machine import family
from tabwise_server.capacity.fleet import free_port
from tabwise_server.daemon_state import (
    DaemonState,
    exclusive_lock,
    read_state,
    remove_state,
    write_state,
)

Started = subprocess.Popen[str]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A state folder and a configuration of the test's own, here and for children."""
    monkeypatch.setenv("TABWISE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TABWISE_SERVE_CHECKPOINT", str(save_tiny(tmp_path / "tiny")))
    monkeypatch.setenv("TABWISE_CONFIG", str(tmp_path / "tabwise.toml"))
    (tmp_path / "tabwise.toml").write_text("")
    return dict(os.environ)


@pytest.fixture
def children() -> Iterator[list[Started]]:
    started: list[Started] = []
    yield started
    for child in started:
        child.kill()
        child.communicate()


def serve(children: list[Started], *flags: str) -> Started:
    child = subprocess.Popen(
        [sys.executable, "-m", "tabwise_server", "serve", *flags],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    children.append(child)
    return child


def wait_for_url(child: Started) -> str:
    """The address that the server logs once it listens."""
    assert child.stderr is not None
    for line in child.stderr:
        if "http://" in line:
            return line[line.index("http://") :].strip()
    raise AssertionError("the server ended without listening")


def wait_for_daemon(child: Started) -> DaemonState:
    while child.poll() is None:
        state = read_state()
        if state is not None:
            return state
    raise AssertionError("the daemon ended without a state file")


@pytest.mark.usefixtures("environment")
def test_it_answers_and_leaves_on_sigterm(children: list[Started]) -> None:
    child = serve(children, "--port", "0")
    url = wait_for_url(child)
    body = json.dumps({"code": "def f(", "max_tokens": 3}).encode()
    with urllib.request.urlopen(f"{url}/complete", body, timeout=30) as answer:
        assert json.load(answer)["tokens"] <= 3
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 0
    assert child.communicate()[0] == ""


def terminate(child: Started) -> None:
    child.send_signal(signal.SIGTERM)


def interrupt_all(child: Started) -> None:
    """As Ctrl-C in a terminal does."""
    for pid in family(child.pid):
        os.kill(pid, signal.SIGINT)


@pytest.mark.parametrize("end", [terminate, interrupt_all])
@pytest.mark.usefixtures("environment")
async def test_who_is_told_to_leave_finishes_every_accepted_request(
    end: Callable[[Started], None], children: list[Started]
) -> None:
    child = serve(children, "--port", "0", "--slots", "2", "--engines", "2")
    url = wait_for_url(child)
    async with aiohttp.ClientSession() as http:

        async def ask(n: int) -> int:
            body = {"code": f"x{n} = ", "max_tokens": 30}
            async with http.post(f"{url}/complete", json=body) as answer:
                await answer.read()
                return answer.status

        async def accepted() -> int:
            async with http.get(f"{url}/metrics") as answer:
                text = await answer.text()
            return int(float(text.partition("\nactive_requests ")[2].split()[0]))

        tasks = [asyncio.create_task(ask(n)) for n in range(40)]
        async with asyncio.timeout(30):
            while await accepted() + sum(task.done() for task in tasks) < 40:
                assert child.poll() is None
        end(child)
        assert set(await asyncio.gather(*tasks)) == {200}
        # an idle connection that is kept alive holds nobody up
        assert await asyncio.to_thread(child.wait, 8) == 0


@pytest.mark.usefixtures("environment")
def test_a_second_sigterm_ends_it_at_once(children: list[Started]) -> None:
    child = serve(children, "--port", "0", "--drain-s", "100")
    url = wait_for_url(child)
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as peer:
        peer.sendall(
            b"POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert peer.recv(100).startswith(b"HTTP/1.1 100 ")  # it waits for the body
        child.send_signal(signal.SIGTERM)
        assert child.stderr is not None
        assert "leaving; 1 requests to finish" in child.stderr.readline()
        assert child.poll() is None
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that says")
@pytest.mark.usefixtures("environment")
def test_no_engine_outlives_its_server_however_that_ends(
    children: list[Started],
) -> None:
    for end in (signal.SIGTERM, signal.SIGKILL):
        child = serve(children, "--port", "0", "--engines", "2")
        wait_for_url(child)
        server, *engines = family(child.pid)
        assert (server, len(engines)) == (child.pid, 2)
        child.send_signal(end)
        assert child.wait(20) == (0 if end is signal.SIGTERM else -end)
        left = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in engines):
            assert time.monotonic() < left
            time.sleep(0.01)


def health(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def said(child: Started, text: str) -> str:
    """The log line that has `text`, once it has come."""
    assert child.stderr is not None
    for line in child.stderr:
        if text in line:
            return line
    raise AssertionError("the server ended")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_sighup_serves_the_checkpoint_that_lies_there_now(
    environment: dict[str, str], children: list[Started]
) -> None:
    folder = Path(environment["TABWISE_SERVE_CHECKPOINT"])
    child = serve(children, "--port", "0")
    url = wait_for_url(child)
    first = health(url)
    save_tiny(folder, seed=1)
    child.send_signal(signal.SIGHUP)
    assert "is new" in said(child, "reloaded")
    second = health(url)
    assert second["sha256"] != first["sha256"]
    assert (second["pid"], second["model_loaded"]) == (first["pid"], True)
    (folder / "model.safetensors").write_bytes(b"damaged")
    child.send_signal(signal.SIGHUP)
    assert "is damaged" in said(child, "reloading failed")
    (folder / "SHA256SUMS").write_bytes(b"\xff")
    child.send_signal(signal.SIGHUP)
    assert "SHA256SUMS is damaged" in said(child, "reloading failed")
    assert health(url)["sha256"] == second["sha256"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
@pytest.mark.usefixtures("environment")
def test_sighup_to_all_of_its_processes_ends_none(children: list[Started]) -> None:
    """As when a terminal closes, or a unit is told to reload."""
    child = serve(children, "--port", "0", "--engines", "2")
    wait_for_url(child)
    processes = family(child.pid)
    assert len(processes) == 3
    for pid in processes[::-1]:
        os.kill(pid, signal.SIGHUP)
    assert "is the same" in said(child, "reloaded")
    assert family(child.pid) == processes


@pytest.mark.usefixtures("environment")
def test_a_taken_port_is_one_clear_line(children: list[Started]) -> None:
    url = wait_for_url(serve(children, "--port", "0"))
    second = serve(children, "--port", url.rpartition(":")[2])
    errors = second.communicate(timeout=30)[1]
    assert second.returncode == 1
    assert errors.count("\n") == 1
    assert "choose another with --port" in errors


@pytest.mark.usefixtures("environment")
def test_a_successor_may_listen_where_it_is_told_to(children: list[Started]) -> None:
    port = str(free_port())
    both = [serve(children, "--reuse-port", "--port", port) for _ in range(2)]
    assert [wait_for_url(child).rpartition(":")[2] for child in both] == [port, port]
    both[0].terminate()
    assert both[0].wait(30) == 0
    assert health(f"http://127.0.0.1:{port}")["pid"] == both[1].pid


@pytest.mark.usefixtures("environment")
def test_a_shared_port_must_be_named(children: list[Started]) -> None:
    child = serve(children, "--reuse-port", "--port", "0")
    errors = child.communicate(timeout=30)[1]
    assert child.returncode == 1
    assert "name one by --port" in errors


@pytest.mark.usefixtures("environment")
def test_a_missing_checkpoint_is_one_clear_line(children: list[Started]) -> None:
    child = serve(children, "--checkpoint", "nowhere")
    errors = child.communicate(timeout=30)[1]
    assert child.returncode == 1
    assert errors.startswith("tabwise serve: no checkpoint 'nowhere'")


def test_a_daemon_tells_its_user_alone_where_it_is(
    environment: dict[str, str], children: list[Started]
) -> None:
    child = serve(children, "--daemon")
    state = wait_for_daemon(child)
    folder = Path(environment["TABWISE_STATE_DIR"])
    assert state.pid == child.pid
    assert folder.stat().st_mode & 0o777 == 0o700
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    with urllib.request.urlopen(f"{state.url}/health", timeout=10) as answer:
        assert json.load(answer)["status"] == "healthy"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{state.url}/metrics", timeout=10)
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 0
    assert read_state() is None


@pytest.mark.usefixtures("environment")
def test_a_second_daemon_leaves_the_first_alone(children: list[Started]) -> None:
    first = serve(children, "--daemon")
    state = wait_for_daemon(first)
    second = serve(children, "--daemon")
    assert second.wait(30) == 0
    assert read_state() == state


@pytest.mark.usefixtures("environment")
def test_a_new_daemon_need_not_wait_for_the_old_ones_last_answer(
    children: list[Started],
) -> None:
    old = serve(children, "--daemon", "--drain-s", "100")
    state = wait_for_daemon(old)
    with socket.create_connection(("127.0.0.1", state.port)) as peer:
        peer.sendall(
            b"POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            b"Authorization: Bearer " + state.token.encode() + b"\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert peer.recv(100).startswith(b"HTTP/1.1 100 ")
        old.send_signal(signal.SIGTERM)
        while read_state() is not None:
            assert old.poll() is None
        new = serve(children, "--daemon")
        successor = wait_for_daemon(new)
        assert successor.pid == new.pid
        assert old.poll() is None
    assert old.wait(20) == 0
    assert read_state() == successor


@pytest.mark.usefixtures("environment")
def test_an_idle_daemon_leaves(children: list[Started]) -> None:
    child = serve(children, "--daemon", "--idle-exit-s", "0.5")
    assert child.wait(30) == 0
    assert read_state() is None


@pytest.mark.usefixtures("environment")
def test_the_state_file_is_replaced_whole_and_removed_by_its_owner() -> None:
    state = DaemonState(
        pid=7, port=1, token="t", started=0.0, version="x", checkpoint="y"
    )
    write_state(state)
    assert read_state() == state
    remove_state(pid=8)
    assert read_state() == state
    remove_state(pid=7)
    assert read_state() is None


@pytest.mark.usefixtures("environment")
def test_a_lock_is_held_once() -> None:
    with exclusive_lock("x.lock") as first, exclusive_lock("x.lock") as second:
        assert (first, second) == (True, False)
    with exclusive_lock("x.lock") as third:
        assert third

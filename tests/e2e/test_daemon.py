"""Editors that share one daemon: its start, its death, what a cancel stops."""

import asyncio
import contextlib
import hashlib
import itertools
import os
import signal
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from support.language_server import URI, daemon_pid, language_server, until
from tabwise_server.backends.daemon import client_of, process_exists
from tabwise_server.bench.client import (
    STATUS,
    LspClient,
    ResponseError,
    inline_params,
)
from tabwise_server.daemon_state import DaemonState, read_state, write_state
from tabwise_server.metrics_text import read_metrics
from tabwise_server.settings import BackendSettings

Env = dict[str, str]
LONG = "".join(f"def f{i}(x):\n    return x + {i}\n\n\n" for i in range(40))
PATIENT = {"deadlineMs": 60_000, "maxNewTokens": 512}


def state_of(environment: Env, monkeypatch: pytest.MonkeyPatch) -> DaemonState:
    monkeypatch.setenv("TABWISE_STATE_DIR", environment["TABWISE_STATE_DIR"])
    state = read_state()
    assert state is not None
    return state


async def metrics_of(state: DaemonState) -> dict[str, float]:
    client = client_of(state, BackendSettings())
    try:
        return read_metrics(await client.metrics())
    finally:
        await client.close()


def daemons_of(environment: Env) -> list[int]:
    """Pids of all daemons that live with this state folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            folder = process.environ().get("TABWISE_STATE_DIR")
            if "--daemon" in line and folder == environment["TABWISE_STATE_DIR"]:
                found.append(process.pid)
    return found


@pytest.mark.slow
async def test_ten_language_servers_starting_at_once_end_with_one_daemon(
    environment: Env,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        servers = [language_server(environment) for _ in range(10)]
        clients = await asyncio.gather(*map(stack.enter_async_context, servers))
        await asyncio.gather(*(client.wait_until_ready(90) for client in clients))
        assert len(daemons_of(environment)) == 1


def ready_since(client: LspClient, before: int) -> bool:
    """Whether the backend has become ready after the first `before` notifications."""
    later = client.notifications[before:]
    return any(m == STATUS and p["state"] == "ready" for m, p in later)


async def test_a_killed_daemon_gives_an_empty_answer_and_then_a_new_one_comes(
    environment: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    # no process starts within the deadline, so the killed one's request stays empty
    async with language_server(environment, options={"deadlineMs": 100}) as client:
        await client.wait_until_ready(60)
        first = state_of(environment, monkeypatch)
        client.open(URI, LONG)
        before = len(client.notifications)
        # stopped, it cannot answer before it is killed
        os.kill(first.pid, signal.SIGSTOP)
        _, answer = client.ask(
            "textDocument/inlineCompletion", inline_params(URI, (160, 0))
        )
        os.kill(first.pid, signal.SIGKILL)
        assert await answer == []
        await client.inline_completion(URI, (0, 0))
        async with asyncio.timeout(60):
            while not ready_since(client, before):  # noqa: ASYNC110 - a process's doing
                await asyncio.sleep(0.02)
        assert state_of(environment, monkeypatch).pid != first.pid
        assert len(daemons_of(environment)) == 1


async def test_a_stale_state_file_is_replaced(
    environment: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABWISE_STATE_DIR", environment["TABWISE_STATE_DIR"])
    # a living process that is not a daemon: this one
    stale = DaemonState(
        pid=os.getpid(), port=9, token="t", started=0.0, version="0", checkpoint="c"
    )
    write_state(stale)
    async with language_server(environment) as client:
        await client.wait_until_ready(60)
    assert state_of(environment, monkeypatch).pid != os.getpid()


async def test_a_daemon_knows_nothing_of_the_repository_that_it_was_started_in(
    environment: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with language_server({**environment, "GIT_DIR": "/elsewhere"}) as client:
        await client.wait_until_ready(60)
    around = psutil.Process(state_of(environment, monkeypatch).pid).environ()
    assert around["TABWISE_STATE_DIR"] == environment["TABWISE_STATE_DIR"]
    assert "GIT_DIR" not in around


@pytest.mark.parametrize("checkpoint", ["default", "./mine"])
async def test_a_daemon_takes_its_model_from_a_project_only_by_an_explicit_path(
    environment: Env,
    tmp_path: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    checkpoint: str,
) -> None:
    (project := tmp_path / "project").mkdir()
    (project / "default").mkdir()
    (project / "default" / "config.json").write_text("{}")
    (project / "mine").symlink_to(tiny_checkpoint)
    (project / "code.py").write_text("x = ")
    environment["TABWISE_SERVE_CHECKPOINT"] = checkpoint
    here = {**environment, "TABWISE_STATE_DIR": "../state"}
    monkeypatch.chdir(project)
    assert await tabwise(here, "complete", "code.py:1:5") == 0
    state = state_of(environment, monkeypatch)
    mine = hashlib.sha256((tiny_checkpoint / "model.safetensors").read_bytes())
    assert (state.checkpoint == mine.hexdigest()) is (checkpoint == "./mine")
    assert psutil.Process(state.pid).cwd() == environment["TABWISE_STATE_DIR"]


async def test_a_daemon_that_cannot_start_is_a_status_with_its_reason(
    environment: Env, tmp_path: Path
) -> None:
    broken = {**environment, "TABWISE_SERVE_CHECKPOINT": str(tmp_path / "missing")}
    async with language_server(broken) as client:
        client.open(URI, "x = ")
        assert (await client.inline_completion(URI, (0, 4))).text is None
        with pytest.raises(Exception, match="no checkpoint"):
            await client.wait_until_ready(60)
        assert {method for method, _ in client.notifications} == {"$/tabwise/status"}


async def test_a_cancelled_request_stops_computing_in_the_engine(
    environment: Env, slow_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the prompt: a random model's line may end after a few tokens by itself."""
    slow = {**environment, "TABWISE_SERVE_CHECKPOINT": str(slow_checkpoint)}
    engine = "tabwise_engine_"
    computed, cancelled = f"{engine}prefill_tokens_total", f"{engine}cancelled_total"
    wanted, steps = f"{engine}prompt_tokens_total", f"{engine}steps_total"
    async with language_server(slow, options=PATIENT) as client:
        await client.wait_until_ready(60)
        state = state_of(slow, monkeypatch)
        client.open(URI, "value = compute(1)\n" * 1_000 + "def g():\n    ")
        began = await metrics_of(state)
        id, answer = client.ask(
            "textDocument/inlineCompletion", inline_params(URI, (1_001, 4))
        )
        while (await metrics_of(state))[computed] == began[computed]:
            assert not answer.done()
        client.notify("$/cancelRequest", {"id": id})
        with pytest.raises(ResponseError):
            await answer
        while (stopped := await metrics_of(state))[cancelled] == began[cancelled]:
            assert stopped[computed] - began[computed] < stopped[wanted]
        again = await metrics_of(state)
        assert again[steps] == stopped[steps]
        assert again["active_requests"] == 0
        assert again[computed] - began[computed] < again[wanted] - began[wanted]


async def test_the_daemon_and_its_files_are_the_users_alone(
    environment: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with language_server(environment) as client:
        await client.wait_until_ready(60)
        assert open_to_others(Path(environment["TABWISE_STATE_DIR"])) == []


async def test_the_daemon_outlives_the_editor_and_stop_ends_it(
    environment: Env, tmp_path: Path
) -> None:
    async with language_server(environment) as client:
        await client.wait_until_ready(60)
    pid = daemon_pid(tmp_path / "state")
    assert pid is not None
    assert process_exists(pid)
    assert await tabwise(environment, "status") == 0
    assert await tabwise(environment, "doctor") == 0
    assert await tabwise(environment, "stop") == 0
    await until(lambda: not process_exists(pid))
    assert await tabwise(environment, "status") == 3


def open_to_others(folder: Path) -> list[Path]:
    """The folder and its files, those that others may read."""
    return [f for f in (folder, *folder.iterdir()) if f.stat().st_mode & 0o077]


async def tabwise(environment: Env, *arguments: str) -> int:
    """Run the command; its exit status."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tabwise_server", *arguments), env=environment
    )
    return await process.wait()


REMEMBERED = "tabwise_remembered_tokens"
TARIFF = """
class {0}Tariff:
    def __init__(self, zone, weight_limit_grams):
        self.zone = zone
        self.weight_limit_grams = weight_limit_grams

    def price_of(self, {1}):
        if {1}.weight > self.weight_limit_grams:
            raise TooHeavyForTariff({1}.weight)
        return self.zone.base_price_in_cents + self.zone.surcharge_on_islands
"""


@pytest.mark.parametrize("remember", [True, False])
async def test_what_another_file_of_the_workspace_says_is_suggested(
    environment: Env,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    remember: bool,
) -> None:
    (tmp_path / "parcels.py").write_text(TARIFF.format("Parcel", "parcel"))
    rest = "surcharge_on_islands"
    written = TARIFF.format("Letter", "letter").rstrip().removesuffix(rest)
    uri, (*above, last) = (tmp_path / "letters.py").as_uri(), written.split("\n")
    place = len(above), len(last)
    shipped = {**environment, "TABWISE_SERVE_CHECKPOINT": "default"}
    options: dict[str, object] = {"rememberWorkspace": remember}
    async with language_server(
        shipped, rootUri=tmp_path.as_uri(), options=options
    ) as client:
        await client.wait_until_ready(60)
        client.open(uri, written)
        state = state_of(shipped, monkeypatch)
        async with asyncio.timeout(60):
            for count in itertools.count(2):
                client.change(uri, count, "#", (0, 0))
                await client.inline_completion(uri, (0, 0))
                if not remember or (await metrics_of(state))[REMEMBERED]:
                    break
        found = await client.inline_completion(uri, place)
    assert (found.text == rest) is remember

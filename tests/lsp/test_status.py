"""What the editor is told about the backend."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from support.language_server import URI, isolated, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.backends.protocol import Status
from tabwise_server.bench.client import LspClient
from tabwise_server.lsp import status as status_module
from tabwise_server.lsp.status import Progress, StatusKeeper

Env = dict[str, str]


class Editor:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.refuses = False
        self.progress = Progress(self.notify, self.create)
        self.keeper = StatusKeeper(self.notify, self.progress)

    def notify(self, method: str, params: Any) -> None:
        self.told.append((method, params))

    def create(self, token: str) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.refuses:
            future.set_exception(ValueError("no bars here"))
        else:
            future.set_result(None)
        return future

    @property
    def states(self) -> list[str]:
        return [p["state"] for method, p in self.told if method == status_module.STATUS]

    @property
    def bars(self) -> list[str]:
        told = [p.value for method, p in self.told if method == types.PROGRESS]
        return [value.kind for value in told]


@pytest.fixture
async def editor() -> Editor:
    return Editor()


def pretend_daemon(folder: Path, backend: ScriptedBackend) -> None:
    """A state file that says the scripted backend is the shared daemon, an old one."""
    folder.mkdir()
    port = int(backend.url.rpartition(":")[2])
    state = {"pid": os.getpid(), "port": port, "token": "t", "started": 0.0}
    state |= {"version": "0.0.1", "checkpoint": "default"}
    (folder / "daemon.json").write_text(json.dumps(state))
    backend.says |= {"pid": os.getpid(), "version": "0.0.1"}


def states(client: LspClient) -> list[str]:
    told = [p for method, p in client.notifications if method == "$/tabwise/status"]
    return [params["state"] for params in told]


async def test_a_failing_backend_is_a_status_and_never_a_message(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        backend.status = 500
        for column in range(4):
            assert (await client.inline_completion(URI, (0, column))).text is None
        backend.status = 200
        assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"
        assert {method for method, _ in client.notifications} == {"$/tabwise/status"}
        assert states(client) == ["ready", "offline", "ready"]


async def test_the_status_can_be_asked_for_with_its_latency(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        await client.inline_completion(URI, (0, 4))
        said = await client.request(
            "workspace/executeCommand", {"command": "tabwise.status"}
        )
        assert (said["state"], said["reason"]) == ("ready", None)
        assert 0 < said["latency"] < 10_000


async def test_a_daemon_of_another_version_is_named_once(
    tmp_path: Path, backend: ScriptedBackend
) -> None:
    environment = isolated(tmp_path)
    pretend_daemon(tmp_path / "state", backend)
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        for column in (4, 3, 4):
            await client.inline_completion(URI, (0, column))
        reasons = [p["reason"] for m, p in client.notifications if "status" in m]
        assert "version 0.0.1" in reasons[-1]
        assert "tabwise stop" in reasons[-1]
        shown = [p["message"] for m, p in client.notifications if "show" in m]
        assert len(shown) == 1


async def test_settings_that_cannot_work_are_a_reason_and_no_end(
    tmp_path: Path,
) -> None:
    environment = isolated(
        tmp_path,
        TABWISE_BACKEND_URL="http://127.0.0.1:9",
        TABWISE_BACKEND_KIND="openai",
    )
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        assert (await client.inline_completion(URI, (0, 4))).text is None
        [(_, said)] = client.notifications
        assert said["state"] == "offline"
        assert "model must be set" in said["reason"]


def test_the_same_state_is_told_once(editor: Editor) -> None:
    for state in ("starting", "starting", "ready", "ready", "offline", "offline"):
        editor.keeper.take(Status(state))
    assert editor.states == ["starting", "ready", "offline"]


def test_a_reason_that_came_with_ready_stays_while_it_is(editor: Editor) -> None:
    editor.keeper.take(Status("ready", "another version"))
    editor.keeper.take(Status("ready"))
    assert editor.keeper.report.reason == "another version"
    editor.keeper.take(Status("offline"))
    editor.keeper.take(Status("ready"))
    assert editor.keeper.report.reason is None


def test_a_backend_that_comes_back_may_be_another(editor: Editor) -> None:
    said = [editor.keeper.take(Status(s)) for s in ("ready", "ready", "offline")]
    assert said == [False, False, False]
    assert editor.keeper.take(Status("ready"))


def test_slow_is_told_once_it_lasts_and_ready_once_it_is_over(editor: Editor) -> None:
    editor.keeper.take(Status("ready"))
    for latency_ms in [50.0] * 9 + [3_000.0] * 8:
        editor.keeper.took(latency_ms)
    assert editor.states == ["ready"]
    for latency_ms in [3_000.0] * 4:
        editor.keeper.took(latency_ms)
    assert editor.states == ["ready", "slow"]
    assert editor.keeper.report.latency == 3_000
    for latency_ms in [50.0] * 20:
        editor.keeper.took(latency_ms)
    assert editor.states == ["ready", "slow", "ready"]


def test_one_message_for_one_cause(editor: Editor) -> None:
    for text in ("this", "that", "this"):
        editor.keeper.tell(text)
    messages = [p.message for m, p in editor.told if m == types.WINDOW_SHOW_MESSAGE]
    assert messages == ["this", "that"]


async def test_a_bar_shows_while_a_model_loads(
    editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_module, "PROGRESS_AFTER_S", 0)
    editor.progress.wanted = True
    editor.keeper.take(Status("starting"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert editor.bars == ["begin"]
    editor.keeper.take(Status("ready"))
    assert editor.bars == ["begin", "end"]


async def test_a_backend_that_is_found_at_once_shows_no_bar(editor: Editor) -> None:
    editor.progress.wanted = True
    editor.keeper.take(Status("starting"))
    await asyncio.sleep(0)
    editor.keeper.take(Status("ready"))
    assert editor.bars == []


@pytest.mark.parametrize(("wanted", "refuses"), [(False, False), (True, True)])
async def test_a_client_without_bars_gets_none(
    editor: Editor, monkeypatch: pytest.MonkeyPatch, wanted: bool, refuses: bool
) -> None:
    monkeypatch.setattr(status_module, "PROGRESS_AFTER_S", 0)
    editor.progress.wanted, editor.refuses = wanted, refuses
    editor.keeper.take(Status("starting"))
    for _ in range(5):
        await asyncio.sleep(0)
    editor.keeper.take(Status("ready"))
    assert editor.bars == []

"""Which folders a language server tells which backend of."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from support.language_server import isolated, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server import __version__
from tabwise_server.daemon_state import DaemonState, write_state
from tabwise_server.wire import WorkspaceFolder

Env = dict[str, str]
PYTHON = "file:///project/inner/a.py"
ASKED = 8  # times: what a backend is becomes known beside the first questions


@pytest.fixture
def daemon(
    tmp_path: Path, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> Env:
    """An environment in which the scripted backend is the user's own daemon."""
    environment = isolated(tmp_path)
    monkeypatch.setenv("TABWISE_STATE_DIR", environment["TABWISE_STATE_DIR"])
    backend.says |= {"pid": os.getpid(), "version": __version__}
    write_state(
        DaemonState(
            pid=os.getpid(),
            port=int(backend.url.rpartition(":")[2]),
            token="t",
            started=0.0,
            version=__version__,
            checkpoint="c",
        )
    )
    return environment


async def told(
    environment: Env,
    backend: ScriptedBackend,
    uri: str = PYTHON,
    language: str = "python",
    **options: Any,
) -> WorkspaceFolder | None:
    """The workspace of the newest request."""
    options = {"rootUri": "file:///project", **options}
    async with language_server(environment, **options) as client:
        await client.wait_until_ready(60)
        client.open(uri, "\n" * ASKED, language)
        for line in range(ASKED):
            await client.inline_completion(uri, (line, 0))
    assert len(backend.requests) >= ASKED
    assert {request.path for request in backend.requests} <= {"inner/a.py", "b.md"}
    return backend.requests[-1].workspace


async def test_the_users_own_daemon_learns_of_the_workspace(
    daemon: Env, backend: ScriptedBackend
) -> None:
    patterns = {"secretPatterns": ["private/", "*.tfvars"]}
    found = await told(daemon, backend, options=patterns)
    assert found is not None
    assert Path(found.folder) == Path("/project")
    assert found.unread == ["private/", "*.tfvars"]


async def test_a_server_elsewhere_does_not(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.says["version"] = __version__
    assert await told(environment, backend) is None


async def test_a_daemon_of_another_version_would_not_understand(
    daemon: Env, backend: ScriptedBackend
) -> None:
    backend.says["version"] = "0.0.1"
    assert await told(daemon, backend) is None


@pytest.mark.parametrize(
    "options",
    [
        {"uri": "file:///project/b.md", "language": "markdown"},
        {"options": {"rememberWorkspace": False}},
        {"options": {"trusted": False}},
        {"options": {"files": {"inner/": {"rememberWorkspace": False}}}},
        {"options": {"secretPatterns": [f"{n}.py" for n in range(257)]}},
    ],
    ids=["another language", "off", "not trusted", "off for this file", "too many"],
)
async def test_who_wants_none_is_given_none(
    daemon: Env, backend: ScriptedBackend, options: dict[str, Any]
) -> None:
    assert await told(daemon, backend, **options) is None


@pytest.mark.parametrize(
    ("user", "folder", "remembered"),
    [("true", "false", False), ("false", "true", False), ("true", "true", True)],
)
async def test_a_folder_may_only_switch_it_off(
    daemon: Env,
    backend: ScriptedBackend,
    tmp_path: Path,
    user: str,
    folder: str,
    remembered: bool,
) -> None:
    project, own = tmp_path / "project", Path(daemon["TABWISE_CONFIG"])
    (project / "inner").mkdir(parents=True)
    for file, said in ((project / "tabwise.toml", folder), (own, user)):
        file.write_text(f"[lsp]\nremember_workspace = {said}\n")
    uri, root = (project / "inner/a.py").as_uri(), project.as_uri()
    found = await told(daemon, backend, uri, rootUri=root)
    assert (found is not None) is remembered


@pytest.mark.parametrize(("said", "remembered"), [("true", True), ("false", False)])
async def test_who_asks_on_a_command_line_tells_of_the_repository(
    daemon: Env, backend: ScriptedBackend, tmp_path: Path, said: str, remembered: bool
) -> None:
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    (project / "inner").mkdir()
    (project / "inner/a.py").write_text("x = \n")
    (project / "tabwise.toml").write_text(f"[lsp]\nremember_workspace = {said}\n")
    command = [sys.executable, "-m", "tabwise_server", "complete", "inner/a.py:1:5"]
    asked = await asyncio.create_subprocess_exec(*command, env=daemon, cwd=project)
    assert await asked.wait() == 0
    (request,) = backend.requests
    assert request.path == "inner/a.py"
    told = request.workspace and Path(request.workspace.folder)
    assert told == (project if remembered else None)

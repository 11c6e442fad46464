"""What goes wrong on a user's machine is told in plain words, with a way out. The taken
port is in tests/serving/test_process.py, the old server in tests/e2e/editors/vscode."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.editors import ROOT, Served
from support.language_server import URI, isolated, language_server, until
from tabwise_server.bench.client import STATUS, LspClient

Env = dict[str, str]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Served]:
    """A real backend that asks for a key."""
    served = Served(isolated(tmp_path, TABWISE_SERVE_API_KEY="the-right-key-of-ours"))
    yield served
    served.kill()


def reasons(client: LspClient) -> list[str]:
    """Why the language server said it was offline."""
    said = [params for method, params in client.notifications if method == STATUS]
    return [one["reason"] for one in said if one["state"] == "offline"]


def test_without_a_python_that_is_new_enough_the_scripts_say_so(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for python in (str(old), "/no/such/python"):
        done = subprocess.run(
            [ROOT / "scripts" / "try"],
            env={"PATH": "/usr/bin:/bin", "PYTHON": python},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "Tabwise needs Python 3.11 or newer; set PYTHON to one." in done.stderr


@pytest.mark.parametrize("command", ["serve", "complete", "doctor"])
def test_a_configuration_that_is_no_toml_is_named(tmp_path: Path, command: str) -> None:
    environment = isolated(tmp_path)
    file = Path(environment["TABWISE_CONFIG"])
    file.write_text("[serve\nport = 1\n")
    code = tmp_path / "code.py"
    code.write_text("x = ")
    words = [command, f"{code}:1:1"] if command == "complete" else [command]
    done = tabwise(environment, *words)
    assert done.returncode == 1
    assert f"{file} is not TOML" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


async def test_an_editor_is_told_that_the_key_is_refused(
    tmp_path: Path, guarded: Served
) -> None:
    environment = isolated(
        tmp_path,
        TABWISE_BACKEND_URL=guarded.url,
        TABWISE_BACKEND_API_KEY="not-the-right-key",
    )
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        assert (await client.inline_completion(URI, (0, 4))).text is None
        [reason] = reasons(client)
    assert f"{guarded.url} refuses the key" in reason
    assert "check backend.api_key" in reason
    assert "not-the-right-key" not in reason


def test_doctor_says_that_the_key_is_refused(tmp_path: Path, guarded: Served) -> None:
    environment = isolated(tmp_path, TABWISE_BACKEND_URL=guarded.url)
    done = tabwise(environment, "doctor")
    assert done.returncode == 1
    assert f"{guarded.url} asks for a key" in done.stdout
    assert "-> set backend.api_key" in done.stdout


async def test_an_editor_is_told_that_nothing_listens_there(
    tmp_path: Path, guarded: Served
) -> None:
    guarded.kill()
    environment = isolated(tmp_path, TABWISE_BACKEND_URL=guarded.url)
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        await client.inline_completion(URI, (0, 4))
        [reason] = reasons(client)
    assert reason == (
        f"{guarded.url} cannot be reached: Connection refused; is the server running?"
    )


async def test_an_editor_is_told_that_there_is_no_checkpoint(tmp_path: Path) -> None:
    environment = isolated(tmp_path, TABWISE_SERVE_CHECKPOINT="/no/such/model")
    async with language_server(environment) as client:
        await until(lambda: bool(reasons(client)))
        [reason] = reasons(client)
    assert "no checkpoint '/no/such/model'" in reason
    assert "neither a folder with config.json nor a shipped name" in reason


def tabwise(environment: Env, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / ".venv" / "bin" / "tabwise"), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

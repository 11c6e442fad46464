"""The commands that a person types, as processes."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from support.language_server import isolated
from support.scripted_backend import ScriptedBackend, scripted_backend

Env = dict[str, str]
ROOT = Path(__file__).parents[2]


@attrs.frozen
class Done:
    status: int
    out: str
    err: str


async def tabwise(environment: Env, *arguments: str, cwd: Path = ROOT) -> Done:
    return await python(environment, "-m", "tabwise_server", *arguments, cwd=cwd)


async def python(environment: Env, *arguments: str, cwd: Path = ROOT) -> Done:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=environment,
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedBackend]:
    async with scripted_backend() as running:
        yield running


@pytest.fixture
def remote(tmp_path: Path, scripted: ScriptedBackend) -> Env:
    """An environment whose backend is the scripted one."""
    return isolated(tmp_path, TABWISE_BACKEND_URL=scripted.url)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "code.py"
    file.write_bytes("s = '😀'\r\nx = \r\ny = 1\r\n".encode())
    return file


async def test_complete_prints_what_an_editor_would_show(
    remote: Env, scripted: ScriptedBackend, source: Path
) -> None:
    done = await tabwise(remote, "complete", f"{source}:2:5")
    assert (done.status, done.out) == (0, "suggested()\n")
    assert scripted.requests[0].prefix == "s = '😀'\nx = "
    assert scripted.requests[0].suffix == "\ny = 1\n"


async def test_complete_as_json_says_all_that_is_known(
    remote: Env, scripted: ScriptedBackend, source: Path
) -> None:
    scripted.answer = lambda request: "<|endoftext|>"
    done = await tabwise(remote, "complete", f"{source}:3:6", "--json")
    result = json.loads(done.out)
    assert result["text"] is None
    assert result["raw"] == "<|endoftext|>"
    assert result["model"] == "scripted"


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("code.py", "must be FILE:LINE:COLUMN"),
        ("code.py:x:1", "must be FILE:LINE:COLUMN"),
        ("code.py:1:", "must be FILE:LINE:COLUMN"),
        ("code.py::5", "must be FILE:LINE:COLUMN"),
        ("code.py:²:1", "must be FILE:LINE:COLUMN"),
        ("code.py:9:1", "line must be 1..4, got 9"),
        ("code.py:2:6", "column must be 1..5 on line 2, got 6"),
        ("code.py:0:1", "line must be 1..4, got 0"),
        ("nothing.py:1:1", "cannot read"),
        (".env:1:1", "never read"),
    ],
)
async def test_complete_names_what_is_wrong_with_the_place(
    remote: Env, source: Path, place: str, complaint: str
) -> None:
    (source.parent / ".env").write_text("KEY=1")
    done = await tabwise(remote, "complete", f"{source.parent}/{place}")
    assert done.status == 1
    assert complaint in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("repository", "option"),
    [
        (False, 'secret_patterns = "code.*"'),
        (False, 'secret_patterns = "private/"'),
        (True, "skip_ignored = true"),
        (True, "languages.python.skip_ignored = true"),
    ],
)
async def test_complete_leaves_alone_what_editors_do(
    remote: Env,
    scripted: ScriptedBackend,
    tmp_path: Path,
    repository: bool,
    option: str,
) -> None:
    """From within the file's own folder, which its name then does not tell."""
    (folder := tmp_path / "private").mkdir()
    (folder / "code.py").write_text("x = ")
    if repository:
        (folder / ".git").mkdir()
        (folder / ".gitignore").write_text("code.py\n")
    (tmp_path / "tabwise.toml").write_text(f"[lsp]\n{option}\n")
    done = await tabwise(remote, "complete", "code.py:1:5", cwd=folder)
    assert done.status == 1
    assert "left alone" in done.err
    assert not scripted.requests


async def test_doctor_finds_nothing_wrong_with_a_working_installation(
    environment: Env,
) -> None:
    done = await tabwise(environment, "doctor", "--json")
    findings = json.loads(done.out)
    assert [f for f in findings if f["remedy"]] == []
    assert done.status == 0
    names = {finding["name"] for finding in findings}
    assert {"python", "settings", "state", "checkpoint", "runner", "daemon"} <= names


async def test_doctor_names_a_missing_checkpoint_and_a_remedy(
    environment: Env, tmp_path: Path
) -> None:
    broken = {**environment, "TABWISE_SERVE_CHECKPOINT": str(tmp_path / "gone")}
    done = await tabwise(broken, "doctor")
    assert done.status == 1
    assert "no checkpoint" in done.out
    assert "-> set serve.checkpoint" in done.out


async def test_doctor_asks_for_the_whole_path_of_a_folder_that_only_lies_here(
    environment: Env, tiny_checkpoint: Path
) -> None:
    environment["TABWISE_SERVE_CHECKPOINT"] = tiny_checkpoint.name
    done = await tabwise(environment, "doctor", cwd=tiny_checkpoint.parent)
    assert done.status == 1
    assert f"-> set serve.checkpoint to {tiny_checkpoint}" in done.out


async def test_doctor_names_a_bad_option_and_where_it_stands(
    environment: Env, tmp_path: Path
) -> None:
    (tmp_path / "tabwise.toml").write_text("[serve]\nslots = 'many'\n")
    done = await tabwise(environment, "doctor")
    assert done.status == 1
    assert "slots must be an integer, got 'many' (file, [serve])" in done.out


async def test_doctor_finds_a_state_folder_open_to_others(
    environment: Env, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    done = await tabwise(environment, "doctor")
    assert done.status == 1
    assert f"chmod 700 {state}" in done.out


@pytest.mark.parametrize(
    "command",
    ["doctor", "doctor --privacy", "stats", "status", "stop", "complete code.py:2:5"],
)
async def test_a_state_folder_that_cannot_be_made_is_named(
    environment: Env, source: Path, command: str
) -> None:
    environment["TABWISE_STATE_DIR"] = str(source)
    done = await tabwise(environment, *command.split(), cwd=source.parent)
    assert done.status == 1
    said = done.out if command == "doctor" else done.err
    assert f"the state folder {source} cannot be made: File exists" in said
    assert "set TABWISE_STATE_DIR to a folder of your own" in said
    assert "Traceback" not in done.err


async def test_doctor_names_the_users_own_file_where_the_variable_is_empty(
    environment: Env, tmp_path: Path
) -> None:
    environment |= {"TABWISE_CONFIG": "", "XDG_CONFIG_HOME": str(tmp_path)}
    done = await tabwise(environment, "doctor")
    assert "tabwise.toml (not there; defaults are used)" in done.out


@pytest.mark.parametrize("more", ["", "--json", "--privacy"])
async def test_doctor_bears_a_reader_that_leaves(environment: Env, more: str) -> None:
    command = f"{sys.executable} -m tabwise_server doctor {more} | exec true"
    process = await asyncio.create_subprocess_shell(
        command, env=environment, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert errors == b""


async def test_serve_names_a_port_that_is_none(environment: Env) -> None:
    done = await tabwise(environment, "serve", "--port", "70000")
    assert done.status == 1
    assert done.err == "tabwise serve: port must be 0..65535, got 70000 (flag)\n"


async def test_doctor_finds_a_remote_backend_that_is_not_there(tmp_path: Path) -> None:
    away = isolated(tmp_path, TABWISE_BACKEND_URL="http://127.0.0.1:9")
    done = await tabwise(away, "doctor")
    assert done.status == 1
    assert "127.0.0.1:9" in done.out


@pytest.mark.parametrize(("answer", "status"), [("suggested()", 0), ("", 1)])
async def test_the_trial_succeeds_only_with_a_suggestion(
    remote: Env, scripted: ScriptedBackend, answer: str, status: int
) -> None:
    scripted.answer = lambda request: answer
    done = await python(remote, "-m", "tabwise_server.bench.trial")
    assert done.status == status, done.err
    assert ("⟦suggested()⟧" in done.out) is (status == 0)
    assert "tabwise lsp" in done.out
    # each place is opened with nothing after it, and the others filled in
    request = next(r for r in scripted.requests if r.prefix.endswith("raise "))
    assert request.suffix.startswith("\n        self.items[name].quantity -= quantity")
    assert "<from>" not in request.prefix + request.suffix
    assert "return name in self.items" in request.suffix

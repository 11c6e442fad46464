"""What is never read, sent or logged."""

import subprocess
import sys
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from support.language_server import URI, isolated, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import ResponseError
from tabwise_server.commands.doctor_privacy import remote_hosts
from tabwise_server.errors import SettingsError
from tabwise_server.lsp.reading import Reader
from tabwise_server.lsp.workspace import path_of
from tabwise_server.settings import BackendSettings, LspSettings

Env = dict[str, str]


@pytest.mark.parametrize(
    "uri",
    [
        "file:///project/.env",
        "file:///home/me/.ssh/config",
        "file:///project/secrets.yaml",
        "untitled:/project/.env",
        "vscode-notebook-cell:/project/.env#cell",
        "vscode-remote://host/home/me/.aws/x",
    ],
)
async def test_secret_files_are_neither_completed_in_nor_context(
    environment: Env, backend: ScriptedBackend, uri: str
) -> None:
    async with language_server(environment) as client:
        client.open(uri, "TOKEN_OF_MINE = 'x'\nKEY = ")
        assert (await client.inline_completion(uri, (1, 6))).text is None
        assert backend.requests == []
        client.open(URI, "TOKEN_OF_MINE\nx = ")
        await client.inline_completion(URI, (1, 4))
        assert backend.requests[0].context == []


async def test_the_users_own_patterns_are_refused_too(
    environment: Env, backend: ScriptedBackend
) -> None:
    options = {"secretPatterns": ["*.tfvars", "private/"]}
    async with language_server(
        environment, options=options, rootUri="file:///project"
    ) as client:
        for path, shown in (
            ("main.tfvars", None),
            ("private/a.py", None),
            ("public/a.py", "suggested()"),
        ):
            uri = f"file:///project/{path}"
            client.open(uri, "x = ")
            assert (await client.inline_completion(uri, (0, 4))).text == shown


async def test_a_backend_is_told_no_path_but_that_within_the_folder(
    environment: Env, backend: ScriptedBackend
) -> None:
    """However long it is: a Chinese character is nine of a URI's."""
    folder = "file:///home/someone/secretproject"
    name = "%E6%96%87" * 40 + ".py"
    async with language_server(environment, rootUri=folder) as client:
        for uri in (f"{folder}/deep/{name}", f"{folder}/deep/a.py"):
            client.open(uri, "x = ")
            shown = await client.inline_completion(uri, (0, 4))
            assert shown.text == "suggested()"
    one, other = backend.requests
    assert one.path == "deep/" + "文" * 40 + ".py"
    assert one.session != other.session
    assert not any(word in repr(one) for word in ("someone", "secretproject", "file:"))


async def test_the_log_holds_no_source_text_even_at_debug(
    environment: Env, backend: ScriptedBackend, tmp_path: Any
) -> None:
    log = tmp_path / "lsp.log"
    more = {"TABWISE_LSP_LOG_FILE": str(log), "TABWISE_LSP_LOG_LEVEL": "DEBUG"}
    backend.answer = lambda request: "secret_answer()"
    async with language_server({**environment, **more}) as client:
        client.open(URI, "secret_question = ")
        assert (await client.inline_completion(URI, (0, 18))).text == "secret_answer()"
        bad = {"textDocument": {"uri": URI}, "position": "secret_position"}
        with pytest.raises(ResponseError):
            await client.request("textDocument/inlineCompletion", bad)
        item = {"insertText": "secret_item", "command": "secret_command"}
        client.notify("textDocument/didShowCompletion", {"item": item})
        with pytest.raises(ResponseError):
            await client.request("workspace/executeCommand", {"command": "secret_one"})
    assert "secret_" not in log.read_text()


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("a.py", False),
        ("a.log", True),
        ("build/x/y.py", True),
        ("sub/a.log", False),
        ("sub/deep/local.py", True),
        ("deep/local.py", False),
    ],
)
def test_the_innermost_gitignore_with_an_opinion_decides(
    tmp_path: Path, path: str, ignored: bool
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".gitignore").write_text("*.log\n/build/\n")
    (tmp_path / "sub/.gitignore").write_text("!*.log\nlocal.py\n")
    reader, file = Reader(), str(tmp_path / path)
    settings = LspSettings(skip_ignored=True)
    assert reader.may_read(file, tmp_path, settings) is not ignored
    assert reader.may_read(file, tmp_path, LspSettings())


def test_an_edited_gitignore_takes_effect(tmp_path: Path) -> None:
    import os

    reader, settings = Reader(), LspSettings(skip_ignored=True)
    ignore, file = tmp_path / ".gitignore", str(tmp_path / "a.py")
    ignore.write_text("b.py\n")
    assert reader.may_read(file, tmp_path, settings)
    ignore.write_text("a.py\n")
    os.utime(ignore, (1, 1))
    assert not reader.may_read(file, tmp_path, settings)
    ignore.unlink()
    assert reader.may_read(file, tmp_path, settings)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b%20c.py", "/a/b c.py"),
        ("untitled:Untitled-1", "Untitled-1"),
        ("vscode-notebook-cell:/a/book.ipynb#W1", "/a/book.ipynb"),
        ("vscode-remote://ssh/a/.env", "/a/.env"),
    ],
)
def test_a_path_is_found_in_any_uri(uri: str, path: str) -> None:
    assert path_of(uri) == path


@pytest.mark.parametrize("scheme", ["file", "vscode-notebook-cell"])
def test_a_cells_path_on_windows_is_written_as_its_folders(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr("pygls.uris.IS_WIN", True)
    folder = PureWindowsPath(path_of("file:///c%3A/Users/me/my%20project"))
    path = path_of(f"{scheme}:///C%3A/Users/me/my%20project/private/a.ipynb#W0")
    assert PureWindowsPath(path).relative_to(folder).parts == ("private", "a.ipynb")


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        (None, []),
        ("http://127.0.0.1:8000, http://localhost:1, http://[::1]:2", []),
        ("https://gpu.example", [("gpu.example", True)]),
        ("http://10.0.0.7:8000 http://127.0.0.1", [("10.0.0.7", False)]),
        ("http://localhost.evil.example", [("localhost.evil.example", False)]),
    ],
)
def test_what_is_on_another_machine_is_known(
    url: str | None, hosts: list[tuple[str, bool]]
) -> None:
    assert list(remote_hosts(BackendSettings(url=url))) == hosts


def test_no_report_is_made_of_an_address_that_is_none() -> None:
    with pytest.raises(SettingsError, match=r"backend\.url must be an address"):
        list(remote_hosts(BackendSettings(url="http://gpu.example http://[::1:8000")))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", ["nothing: completions are computed here", ".env", "*.tfvars"]),
        ("", ["read into the local daemon's", "lsp.remember_workspace"]),
        ("http://gpu.example", ["to gpu.example", "NOT ENCRYPTED", "24000 characters"]),
        ("http://gpu.example", ["no files are read but those that are open"]),
    ],
)
def test_doctor_says_what_leaves_the_machine(
    tmp_path: Path, url: str, words: list[str]
) -> None:
    more = {"TABWISE_BACKEND_URL": url} if url else {}
    environment = isolated(tmp_path, TABWISE_LSP_SECRET_PATTERNS="*.tfvars", **more)
    command = [sys.executable, "-m", "tabwise_server", "doctor", "--privacy"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    assert all(word in done.stdout for word in words)

"""Options from the editor and from files, and what is wrong with them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend, scripted_backend
from tabwise_server.bench.client import LspClient
from tabwise_server.lsp import configuration as configuration_module
from tabwise_server.lsp.configuration import Configuration
from tabwise_server.settings import LspSettings, Settings
from tabwise_server.settings_sources import load_leniently, load_settings

Env = dict[str, str]


def messages(client: LspClient) -> list[str]:
    """What the user was shown."""
    shown = [p for method, p in client.notifications if method == "window/showMessage"]
    return [message["message"] for message in shown]


def write_user_file(environment: Env, text: str) -> None:
    Path(environment["TABWISE_CONFIG"]).write_text(text)


async def budget_of(client: LspClient, backend: ScriptedBackend, uri: str) -> int:
    """What the backend is told of a document never asked about before."""
    client.open(uri, "x = ")
    await client.inline_completion(uri, (0, 4))
    return backend.requests[-1].max_new_tokens


def resolved(folder: Path, configuration: Configuration | None = None) -> LspSettings:
    """What holds for a Python file in a workspace's folder."""
    configuration = configuration or Configuration(Settings())
    configuration.refresh([folder])
    return configuration.lsp(folder, "python", "src/a.py")


async def test_a_bad_option_is_named_once_and_its_default_used(
    environment: Env, backend: ScriptedBackend, tmp_path: Path
) -> None:
    log = tmp_path / "lsp.log"
    environment = {**environment, "TABWISE_LSP_LOG_FILE": str(log)}
    options = {"maxNewTokens": 9, "deadlineMs": "soon", "unheard": 1, "level": "loud"}
    async with language_server(environment, options=options) as client:
        client.open(URI, "x = ")
        for column in (4, 3):
            await client.inline_completion(URI, (0, column))
        request = backend.requests[0]
        assert request.max_new_tokens == 9
        assert request.deadline_ms == pytest.approx(2_000, rel=0.1)
        for words in ("deadline_ms must", "option 'unheard'", "level must"):
            assert len([text for text in messages(client) if words in text]) == 1
    text = log.read_text()
    assert text.count("deadline_ms must be a number, got 'soon'") == 1
    assert text.count("unknown option 'unheard'") == 1


async def test_a_bad_file_or_variable_does_not_keep_the_server_from_starting(
    environment: Env, backend: ScriptedBackend
) -> None:
    write_user_file(environment, "[lsp]\nlevel = 3\nmax_new = 1\n")
    environment |= {
        "TABWISE_LSP_DEADLINE_MS": "soon",
        "TABWISE_LSP_LOG_LEVEL": "loud",
        "TABWISE_LSP_LOG_FILE": "/no/such/folder/log",
    }
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"
        found = " ".join(messages(client))
        names = ("level must", "max_new", "deadline_ms", "log_level", "log_file")
        assert all(name in found for name in names)


async def test_switched_off_it_suggests_nothing(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment, options={"enabled": False}) as client:
        client.open(URI, "x = ")
        assert (await client.inline_completion(URI, (0, 4))).text is None
        assert backend.requests == []


async def test_a_pushed_change_holds_from_the_next_request_on(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        for settings, shown in (
            ({"tabwise": {"enabled": False}}, None),
            ({"tabwise": {"enabled": True}}, "suggested()"),
            ({"languages": {"python": False}}, None),
            ({"languages": {"python": {"enabled": True}}}, "suggested()"),
            ({"files": {"*.py": {"enabled": False}}}, None),
            ({"files": {"*.js": False}}, "suggested()"),
            (None, "suggested()"),
        ):
            client.notify("workspace/didChangeConfiguration", {"settings": settings})
            assert (await client.inline_completion(URI, (0, 4))).text == shown, settings


async def test_the_editor_is_asked_for_its_section_and_that_of_each_folder(
    environment: Env, backend: ScriptedBackend
) -> None:
    folders = [{"uri": f"file:///{name}", "name": name} for name in ("one", "two")]
    asked: list[Any] = []

    def answer(params: Any) -> list[Any]:
        asked.append([item.get("scopeUri") for item in params["items"]])
        return [{"maxNewTokens": 7}, {"maxNewTokens": 8}, None]

    async with language_server(environment, initialize=False) as client:
        client.handlers["workspace/configuration"] = answer
        await client.initialize(
            workspaceFolders=folders, more={"workspace": {"configuration": True}}
        )
        async with asyncio.timeout(30):  # what was asked before the answer came
            while await budget_of(client, backend, "file:///one/a.py") != 8:
                pass
        assert await budget_of(client, backend, "file:///two/a.py") == 7
        client.notify("workspace/didChangeConfiguration", {"settings": None})
        await client.inline_completion("file:///two/a.py", (0, 4))
        assert asked == [[None, "file:///one", "file:///two"]] * 2


@pytest.mark.parametrize("answer", [None, 3, [], ["x"], {"a": 1}])
async def test_a_client_that_answers_nonsense_changes_nothing(
    environment: Env, backend: ScriptedBackend, answer: Any
) -> None:
    async with language_server(environment, initialize=False) as client:
        client.handlers["workspace/configuration"] = lambda params: answer
        await client.initialize(more={"workspace": {"configuration": True}})
        client.open(URI, "x = ")
        assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"


async def test_another_backend_is_asked_without_a_restart(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with scripted_backend() as other, language_server(environment) as client:
        other.answer = lambda request: "from_the_other()"
        client.open(URI, "x = ")
        assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"
        settings = {"tabwise": {"backend": {"url": other.url}}}
        client.notify("workspace/didChangeConfiguration", {"settings": settings})
        shown = await client.inline_completion(URI, (0, 4))
        assert shown.text == "from_the_other()"


async def test_an_edited_user_file_takes_effect(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"
        write_user_file(environment, "[lsp]\nenabled = false\n")
        async with asyncio.timeout(30):
            while (await client.inline_completion(URI, (0, 4))).text is not None:
                pass


def test_a_folders_files_are_read_the_pyproject_last(tmp_path: Path) -> None:
    (tmp_path / "tabwise.toml").write_text("[lsp]\nlevel = 'eager'\ndeadline_ms = 9\n")
    (tmp_path / "pyproject.toml").write_text("[tool.tabwise]\nlevel = 'quiet'\n")
    settings = resolved(tmp_path)
    assert (settings.level, settings.deadline_ms) == ("quiet", 9)


def test_a_folder_that_joins_is_looked_at_before_the_second_has_passed(
    tmp_path: Path,
) -> None:
    configuration, joining = Configuration(Settings()), tmp_path / "b"
    configuration.refresh([tmp_path])
    joining.mkdir()
    (joining / "tabwise.toml").write_text("[lsp]\nsecret_patterns = '*.py'\n")
    assert configuration.refresh([tmp_path, joining])
    assert configuration.lsp(joining, "python", "a.py").secret_patterns == "*.py"
    assert not configuration.refresh([joining])


def test_the_editor_comes_before_the_folder_and_the_language_before_both(
    tmp_path: Path,
) -> None:
    text = "[lsp]\nlevel = 'eager'\ndeadline_ms = 9\nmax_new_tokens = 3\n"
    text += "[lsp.languages.python]\nmax_new_tokens = 4\n"
    (tmp_path / "tabwise.toml").write_text(text)
    configuration = Configuration(Settings())
    configuration.initialize({"level": "quiet", "maxNewTokens": 5})
    settings = resolved(tmp_path, configuration)
    assert settings.level == "quiet"
    assert settings.deadline_ms == 9
    assert settings.max_new_tokens == 4


@pytest.mark.parametrize(
    "text",
    [
        "[backend]\nurl = 'http://evil.example'\n",
        "[lsp]\nlog_file = '/tmp/evil'\n",
        "[lsp]\ntrusted = true\n",
        "[lsp]\nlogFile = '/tmp/evil'\n",
        "[lsp.languages.python]\nenabled = true\nlogFile = '/tmp/evil'\n",
        "[lsp.files.'*']\nenabled = true\nsecretPatterns = ''\nskip_ignored = false\n",
        "[lsp]\nenabled = true\nskip_ignored = false\nsecret_patterns = ''\n",
    ],
)
def test_a_workspace_cannot_loosen_what_the_user_set(tmp_path: Path, text: str) -> None:
    (tmp_path / "tabwise.toml").write_text(text)
    user = LspSettings(enabled=False, skip_ignored=True, secret_patterns="*.tfvars")
    configuration = Configuration(Settings(lsp=user))
    settings = resolved(tmp_path, configuration)
    assert not settings.enabled
    assert settings.skip_ignored
    assert "*.tfvars" in settings.secret_patterns
    assert settings.log_file is None
    assert configuration.backend().url is None


OFF = {"enabled": False}


@pytest.mark.parametrize(
    ("user", "editor"),
    [
        (LspSettings(enabled=False), {}),
        (LspSettings(), OFF),
        (LspSettings(languages={"python": OFF}), {}),
        (LspSettings(files={"*.py": OFF}), {}),
        (LspSettings(), {"languages": {"python": False}}),
        (LspSettings(), {"files": {"src/": False}}),
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "[lsp]\nenabled = true\n",
        "[lsp.languages]\npython = true\n",
        "[lsp.files]\n'*.py' = true\n",
        "[lsp.files]\n'*.py' = {}\n'a.*' = true\n'src/' = true\n",
    ],
)
def test_a_workspace_cannot_switch_on_what_is_off(
    tmp_path: Path, user: LspSettings, editor: dict[str, Any], text: str
) -> None:
    (tmp_path / "tabwise.toml").write_text(text)
    for initial, pushed in ((editor, {}), ({}, editor)):
        configuration = Configuration(Settings(lsp=user))
        configuration.initialize(initial)
        configuration.push(pushed, {})
        assert not resolved(tmp_path, configuration).enabled


@pytest.mark.parametrize(
    "text",
    ["[lsp]\nenabled = false", "[lsp]\nlanguages.python = false\nfiles.'*' = {}"],
)
def test_a_workspace_may_switch_off_what_is_on(tmp_path: Path, text: str) -> None:
    (tmp_path / "tabwise.toml").write_text(text)
    assert not resolved(tmp_path).enabled


def test_what_the_user_says_of_files_comes_after_what_the_workspace_says(
    tmp_path: Path,
) -> None:
    text = "[lsp.files]\n'*.py' = {level = 'eager'}\n'a.*' = {level = 'eager'}\n"
    (tmp_path / "tabwise.toml").write_text(text)
    user = LspSettings(files={"*.py": {"level": "quiet"}})
    assert resolved(tmp_path, Configuration(Settings(lsp=user))).level == "quiet"


def test_what_the_user_says_of_a_language_stays_beside_what_the_workspace_says(
    tmp_path: Path,
) -> None:
    text = (
        "[lsp.languages]\npython = {enabled = true, max_new_tokens = 5}\ngo = false\n"
    )
    (tmp_path / "tabwise.toml").write_text(text)
    user = LspSettings(languages={"python": {"enabled": False}})
    configuration = Configuration(Settings(lsp=user))
    settings = resolved(tmp_path, configuration)
    assert (settings.enabled, settings.max_new_tokens) == (False, 5)
    assert configuration.lsp(tmp_path, "go").enabled is False
    assert configuration.lsp(tmp_path, "rust").enabled is True


def test_a_switch_and_what_is_no_table_stand_beside_what_the_workspace_says(
    tmp_path: Path,
) -> None:
    text = "[lsp.languages]\npython = {max_new_tokens = 5}\nc = {level = 'eager'}\n"
    (tmp_path / "tabwise.toml").write_text(text + "rust = 'on'\n")
    user = tmp_path / "user.toml"
    user.write_text("[lsp.languages]\npython = false\ngo = false\nc = 3\n")
    settings, wrong = load_leniently(environ={"TABWISE_CONFIG": str(user)})
    configuration = Configuration(settings, wrong)
    python = resolved(tmp_path, configuration)
    assert (python.enabled, python.max_new_tokens) == (False, 5)
    assert configuration.lsp(tmp_path, "go").enabled is False
    assert configuration.lsp(tmp_path, "c").level == "eager"
    said = "must be a table, true or false"
    assert [text.partition(", got")[0] for text in configuration.take_complaints()] == [
        f"languages.c {said}",
        f"languages.rust {said}",
    ]


def test_an_untrusted_workspace_sets_nothing(tmp_path: Path) -> None:
    (tmp_path / "tabwise.toml").write_text("[lsp]\nlevel = 'eager'\n")
    configuration = Configuration(Settings())
    configuration.initialize({"trusted": False})
    configuration.push({"backend": {"url": "http://evil.example"}}, {})
    assert resolved(tmp_path, configuration).level == "balanced"
    assert configuration.backend().url is None
    configuration.push({"trusted": True}, {})
    assert resolved(tmp_path, configuration).level == "eager"


@pytest.mark.parametrize("text", ["[lsp", "lsp = 3", "\xff", "tool = 3"])
def test_a_folders_file_that_cannot_be_read_is_named_and_changes_nothing(
    tmp_path: Path, text: str
) -> None:
    for name in ("tabwise.toml", "pyproject.toml"):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    configuration = Configuration(Settings())
    assert resolved(tmp_path, configuration) == LspSettings()
    complaints = configuration.take_complaints()
    assert configuration.take_complaints() == []
    assert all(str(tmp_path) in complaint for complaint in complaints)


def test_files_that_become_unreadable_keep_what_they_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, folder = tmp_path / "user.toml", tmp_path / "tabwise.toml"
    monkeypatch.setenv("TABWISE_CONFIG", str(user))
    monkeypatch.setattr(configuration_module, "LOOK_AGAIN_S", 0.0)
    user.write_text("[lsp]\nsecret_patterns = '*.a'\n")
    folder.write_text("[lsp]\nsecret_patterns = '*.b'\n")
    configuration = Configuration(load_settings())
    assert resolved(tmp_path, configuration).secret_patterns == "*.a, *.b"
    for file in (user, folder):
        file.write_bytes(b"[lsp]\n# caf\xe9\n")
        assert resolved(tmp_path, configuration).secret_patterns == "*.a, *.b"
        [said] = configuration.take_complaints()
        assert f"{file} is not TOML" in said
    for file in (user, folder):
        file.write_text("")
    assert resolved(tmp_path, configuration).secret_patterns == ""


@pytest.mark.parametrize("section", ["client", "server", "trace", "model"])
def test_what_is_the_editors_own_is_passed_over(section: str) -> None:
    configuration = Configuration(Settings())
    configuration.push({section: {"path": "x"}, "level": "quiet"}, {})
    assert configuration.lsp().level == "quiet"
    assert configuration.take_complaints() == []


def test_lists_and_nulls_of_editors_are_understood() -> None:
    configuration = Configuration(Settings())
    options = {"secretPatterns": ["*.a", "b/"], "minConfidence": None}
    configuration.push(json.loads(json.dumps(options)), {})
    assert configuration.lsp().secret_patterns == "*.a, b/"
    assert configuration.take_complaints() == []


def test_an_empty_table_of_lua_is_no_options() -> None:
    configuration = Configuration(Settings())
    configuration.push([], {})
    assert configuration.lsp() == Settings().lsp
    assert configuration.take_complaints() == []

"""Options of files, the environment and flags, and what is wrong with them."""

import argparse
from pathlib import Path

import pytest

from tabwise_server.commands import serve
from tabwise_server.errors import SettingsError
from tabwise_server.serving import run
from tabwise_server.settings import ServeSettings, Settings, load_settings


def loaded(folder: Path, text: str, only: str | None = None) -> Settings:
    """What a tabwise.toml says, with nothing over it."""
    file = folder / "tabwise.toml"
    file.write_text(text)
    return load_settings(environ={}, file=file, only=only)


def test_patterns_of_secret_files_may_be_a_list(tmp_path: Path) -> None:
    text = '[lsp]\nsecret_patterns = ["*.tfvars", "private/"]\n'
    assert loaded(tmp_path, text).lsp.secret_patterns == "*.tfvars, private/"


@pytest.mark.parametrize(
    "text", ["[lsp]\nlevel = 3\n", "[lsp]\nmax_new = 1\n", "[backend]\nkind = 'gpu'\n"]
)
def test_a_wrong_option_of_an_editor_does_not_keep_the_backend_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    started: list[ServeSettings] = []
    monkeypatch.setattr(run, "serve", lambda settings: started.append(settings))
    monkeypatch.setenv("TABWISE_CONFIG", str(tmp_path / "tabwise.toml"))
    (tmp_path / "tabwise.toml").write_text(f"{text}[serve]\nslots = 3\n")
    parser = argparse.ArgumentParser()
    serve.configure(parser)
    serve.run(parser.parse_args([]))
    assert [settings.slots for settings in started] == [3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[serve]\nslots = 0\n", r"slots must be at least 1, got 0 \(file\)"),
        ("[serve]\nslot = 1\n", "unknown option 'slot'"),
        ("[serv]\napi_key = 'k'\n", r"unknown section \[serv\]"),
    ],
)
def test_what_is_wrong_with_the_backends_own_options_stops_it(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        loaded(tmp_path, text, only="serve")

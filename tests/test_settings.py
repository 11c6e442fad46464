"""Options of files, the environment and flags, and what is wrong with them."""

import argparse
from pathlib import Path

import pytest

from tabwise_server.commands import serve
from tabwise_server.errors import SettingsError
from tabwise_server.serving import run
from tabwise_server.settings import ServeSettings, Settings
from tabwise_server.settings_sources import load_leniently, load_settings


def loaded(folder: Path, text: str | bytes, only: str | None = None) -> Settings:
    """What a tabwise.toml says, with nothing over it."""
    file = folder / "tabwise.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_settings(environ={}, file=file, only=only)


def test_patterns_of_secret_files_may_be_a_list(tmp_path: Path) -> None:
    text = '[lsp]\nsecret_patterns = ["*.tfvars", "private/"]\n'
    assert loaded(tmp_path, text).lsp.secret_patterns == "*.tfvars, private/"


def test_paths_count_from_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = """
        [serve]
        checkpoint = "models/mine"
        api_keys_file = "keys"
        tls_cert = "~/cert.pem"
        [backend]
        ca_file = "/etc/ca.pem"
        [lsp]
        log_file = "../log"
    """
    found = loaded(tmp_path, text)
    assert found.serve.checkpoint == str(tmp_path / "models" / "mine")
    assert found.serve.api_keys_file == str(tmp_path / "keys")
    assert found.serve.tls_cert == str(tmp_path / "home" / "cert.pem")
    assert found.serve.tls_key is None
    assert found.backend.ca_file == "/etc/ca.pem"
    assert Path(str(found.lsp.log_file)).resolve() == tmp_path.parent / "log"


def test_a_checkpoints_bare_name_is_a_shipped_ones(tmp_path: Path) -> None:
    assert loaded(tmp_path, "[serve]\ncheckpoint = 'mine'\n").serve.checkpoint == "mine"


@pytest.mark.parametrize("options", ["serve = 3", "[serve]\ncheckpoint = 3"])
def test_what_is_no_path_is_still_told_as_what_it_is(
    tmp_path: Path, options: str
) -> None:
    with pytest.raises(SettingsError, match="must be a"):
        loaded(tmp_path, options)


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


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("max_new_tokens", "0", "1..512, got 0"),
        ("max_new_tokens", "513", "1..512, got 513"),
        ("deadline_ms", "0", "1..3600000, got 0"),
        ("deadline_ms", "nan", "1..3600000, got nan"),
        ("completion_deadline_ms", "inf", "1..3600000, got inf"),
        ("min_confidence", "2", "0..1, got 2"),
        ("min_confidence", "-0.1", "0..1, got -0.1"),
        ("max_prefix_chars", "-5", "at least 0, got -5"),
        ("max_suffix_chars", "-1", "at least 0, got -1"),
    ],
)
def test_an_option_that_no_request_may_have_is_named(
    tmp_path: Path, option: str, value: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{option} must be {said}"):
        loaded(tmp_path, f"[lsp]\n{option} = {value}\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[lsp]\nlevel = 'quiet' # caf\xe9\n", "tabwise.toml is not TOML: 'utf-8'"),
        (b"[lsp\n", "tabwise.toml is not TOML: "),
        (b"backend = 'http://a'\n", r"\[backend\] must be a table .* 'http://a'"),
        (b"url = 'http://a'\n", r"unknown section \[url\] \(file\); known: serve"),
    ],
)
def test_what_is_wrong_with_a_file_as_a_whole_is_named(
    tmp_path: Path, text: bytes, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        loaded(tmp_path, text)
    settings, complaints = load_leniently(
        environ={"TABWISE_CONFIG": str(tmp_path / "tabwise.toml")}
    )
    assert (settings, len(complaints)) == (Settings(), 1)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert (
        loaded(tmp_path, b"\xef\xbb\xbf[lsp]\nlevel = 'quiet'\n").lsp.level == "quiet"
    )

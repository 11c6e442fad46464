"""The VS Code extension: packaged, and run in a real VS Code in a real browser."""

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import attrs
import pytest

from support.editors import CLIENTS, EDITORS, command, installed
from tabwise_server.settings import BackendSettings, LspSettings, ServeSettings

EXTENSION = CLIENTS / "vscode"
MANIFEST = json.loads((EXTENSION / "package.json").read_text())
SETTINGS = MANIFEST["contributes"]["configuration"]["properties"]
NOT_OFFERED = {
    "completion_deadline_ms",  # of the popup, which the extension leaves to others
    "trusted",  # VS Code's own to say
    "log_file",  # there is an output channel; its level is in client.environment
    "log_level",
}


@pytest.fixture(scope="module")
def package() -> Path:
    """The extension as it is published."""
    npm = command("npm", "Node.js")
    installed(EXTENSION, EXTENSION / "node_modules" / ".package-lock.json", npm, "ci")
    done = subprocess.run(
        [npm, "run", "package"],
        cwd=EXTENSION,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return EXTENSION / "build" / "tabwise.vsix"


@pytest.mark.slow
@pytest.mark.timeout(900)  # it installs VS Code where there is none
def test_in_a_real_vscode(package: Path) -> None:
    """The steps are in run.mjs; their pictures stay in its folder `build`."""
    node = command("node", "Node.js")
    command("chromium", "chromium")
    folder = EDITORS / "vscode"
    proof = folder / "node_modules" / "code-server" / "lib" / "vscode"
    installed(folder, proof / "extensions" / "node_modules.asar")
    done = subprocess.run(
        [node, "run.mjs"], cwd=folder, capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0


@pytest.mark.timeout(300)
def test_the_package_is_small_and_has_what_a_marketplace_shows(package: Path) -> None:
    assert package.stat().st_size < 1_000_000
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
        readme = archive.read("extension/readme.md").decode()
    for name in ("readme.md", "changelog.md", "LICENSE.txt", MANIFEST["icon"]):
        assert f"extension/{name}" in names
    assert "(media/typing.gif)" in readme
    assert "extension/media/typing.gif" in names
    assert not [name for name in names if name.endswith((".ts", ".map"))]


def camel(name: str) -> str:
    """As settings are called: max_new_tokens -> maxNewTokens."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


@pytest.mark.parametrize(
    ("section", "prefix"), [(LspSettings, ""), (BackendSettings, "backend.")]
)
def test_every_option_of_the_server_is_a_setting(section: Any, prefix: str) -> None:
    for field in attrs.fields(section):
        if field.name not in NOT_OFFERED:
            assert f"tabwise.{prefix}{camel(field.name)}" in SETTINGS


def test_settings_have_the_servers_defaults() -> None:
    sections: dict[str, Any] = {"": LspSettings(), "backend.": BackendSettings()}
    for prefix, settings in {**sections, "serve.": ServeSettings()}.items():
        for field in attrs.fields(type(settings)):
            setting = SETTINGS.get(f"tabwise.{prefix}{camel(field.name)}")
            if setting is None:
                continue
            default = getattr(settings, field.name)
            expected = [] if setting["type"] == "array" and default == "" else default
            assert setting["default"] == expected, field.name

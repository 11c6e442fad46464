"""Real editors in a real terminal, each with a user of its own, all with one real
daemon and the checkpoint that ships."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support.editors import (
    EDITORS,
    EXAMPLE,
    TABWISE,
    Desk,
    Open,
    Served,
    command,
    installed,
)
from support.language_server import isolated
from support.terminal import Terminal


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder that all tests here share, and so the daemon."""
    folder = tmp_path_factory.mktemp("editors") / "state"
    yield folder
    environment = {**os.environ, "TABWISE_STATE_DIR": str(folder)}
    subprocess.run([TABWISE / "tabwise", "stop"], env=environment, check=False)


@pytest.fixture
def desk(tmp_path: Path, state: Path) -> Desk:
    home, project = tmp_path / "home", tmp_path / "project"
    for folder in (home, project / ".git"):
        folder.mkdir(parents=True)
    environment = isolated(
        tmp_path,
        TABWISE_STATE_DIR=str(state),
        HOME=str(home),
        LANG="C.UTF-8",
        TABWISE_LSP_COMPLETION_DEADLINE_MS="60000",  # of the popup; machines are busy
        PATH=f"{TABWISE}:{os.environ['PATH']}",
    )
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMUX"):
        environment.pop(name, None)
    desk = Desk(home, project, environment)
    desk.file.write_text(EXAMPLE)
    return desk


@pytest.fixture
def served(desk: Desk) -> Iterator[Served]:
    """A backend that the desk's settings point to, in place of the daemon."""
    served = Served(desk.environment)
    desk.environment["TABWISE_BACKEND_URL"] = served.url
    yield served
    served.kill()


@pytest.fixture
def open_editor(desk: Desk, tmp_path: Path) -> Iterator[Open]:
    """Starts an editor in the project, in a terminal that closes with the test."""
    command("tmux", "tmux")
    terminals = []

    def start(words: Sequence[str]) -> Terminal:
        terminal = Terminal(tmp_path, words, desk.environment, desk.project)
        terminals.append(terminal)
        return terminal

    yield start
    for terminal in terminals:
        terminal.close()


@pytest.fixture(scope="session")
def debian() -> Path:
    """The commands of Debian's development branch: nvim, vim, hx, emacs."""
    folder = EDITORS / "debian"
    return installed(folder, folder / ".cache" / "bin" / "emacs") / ".cache" / "bin"

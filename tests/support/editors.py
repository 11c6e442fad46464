"""What the tests of real editors share: the editors, a user's desk, what is edited."""

import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import attrs
import pytest

from support.terminal import Terminal, until

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "editor-client"
EDITORS = ROOT / "tests" / "e2e" / "editors"
TABWISE = ROOT / ".venv" / "bin"

# Set where all of it is to be tested: what is missing is installed, or fails the test.
INSTALL = "TABWISE_EDITORS"
INSTALL_S = 500

# The tests type TYPED at the end of EXAMPLE. What follows is plain from the lines
# above, so that any checkpoint worth shipping suggests something long.
EXAMPLE = (EDITORS / "stock.txt").read_text().rstrip("\n")
TYPED = ".counts"
LAST_LINE = EXAMPLE.rpartition("\n")[2]

Open = Callable[[Sequence[str]], Terminal]


@attrs.frozen
class Desk:
    """A user's home and project. file: in the project, holds EXAMPLE."""

    home: Path
    project: Path
    environment: dict[str, str]

    @property
    def file(self) -> Path:
        return self.project / "stock.py"

    @property
    def settings(self) -> Path:
        """The user's tabwise.toml."""
        return Path(self.environment["TABWISE_CONFIG"])


def command(name: str, package: str) -> str:
    """A program's path; without it the test is skipped, or fails where INSTALL is
    set."""
    found = shutil.which(name)
    return found or missing(f"no {name} here", f"install {package}")


def installed(folder: Path, proof: Path, *words: str) -> Path:
    """`folder`, where `words` (by default its own script, ./install) were run before:
    `proof` is what they make last."""
    words = words or ("./install",)
    if not proof.exists():
        if not os.environ.get(INSTALL):
            place = folder.relative_to(ROOT)
            missing(f"{proof.name} is not in {place}", f"there, {' '.join(words)}")
        subprocess.run(words, cwd=folder, check=True, timeout=INSTALL_S)
    return folder


def missing(what: str, remedy: str) -> NoReturn:
    if os.environ.get(INSTALL):
        pytest.fail(f"{what}: {remedy}")
    pytest.skip(f"{what}: {remedy} (or set {INSTALL}=1)")


class Served:
    """A real `tabwise serve` with the checkpoint that ships, on a port it keeps."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """environment: of the process; it may hold an API key."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Return once it is ready."""
        words = [str(TABWISE / "tabwise"), "serve", "--port", str(self.port)]
        self._process = subprocess.Popen(words, env=self._environment)
        until(self._is_ready, "the backend was ready")

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/readyz").close()
        except OSError:
            return False
        return True

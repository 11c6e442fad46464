"""Starting the shared daemon's process, and what it said before it could log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tabwise_server.settings import state_folder
from tabwise_server.settings_sources import load_leniently

_OUR_PATHS = ("TABWISE_CONFIG", "TABWISE_STATE_DIR")


def spawn_daemon() -> subprocess.Popen[bytes]:
    """Start `tabwise serve --daemon`, detached, its output in a file.

    It runs in the state folder, and -P keeps the current folder off the import path:
    here is whatever project the editor has open, which must not be able to pass off its
    own module or model for ours, nor be kept busy.
    """
    output = os.open(output_file(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return subprocess.Popen(
            _command(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=state_folder(),
            env=_environment(),
            start_new_session=True,
            creationflags=getattr(subprocess, "DETACHED_PROCESS", 0),
        )
    finally:
        os.close(output)


def output_file() -> Path:
    """What the daemon says before its own log is open, or in place of it."""
    return state_folder() / "daemon.out"


def last_words() -> str:
    """The last line of the daemon's output, "" for none."""
    try:
        text = output_file().read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return text.rpartition("\n")[2]


def _command() -> list[str]:
    """A relative path of a checkpoint in the environment is one from here; a bare name
    is a shipped one's."""
    command = [sys.executable, "-P", "-m", "tabwise_server", "serve", "--daemon"]
    name = load_leniently()[0].serve.checkpoint
    if os.path.basename(name) == name:
        return command
    return [*command, "--checkpoint", str(Path(name).expanduser().absolute())]


def _environment() -> dict[str, str]:
    """Ours, with whole paths. An editor that git has started, for a commit's message,
    says which repository it is about; the daemon reads others, too."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    paths = {name: kept[name] for name in _OUR_PATHS if kept.get(name)}
    return kept | {name: str(Path(path).absolute()) for name, path in paths.items()}

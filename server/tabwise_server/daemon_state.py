"""The shared daemon's state file and its lock, in the user's own folder.

`daemon.json` (0600) says where the running daemon listens and how to prove that one may
ask; `daemon.lock` is held for as long as a daemon lives, so there is one at most.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs

from tabwise_server.settings import state_folder

Stamp = tuple[int, int] | None  # a file's time and inode


@attrs.frozen(kw_only=True)
class DaemonState:
    """A running daemon. token: the API key of this run. started: Unix seconds."""

    pid: int
    port: int
    token: str
    started: float
    version: str
    checkpoint: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def state_file() -> Path:
    return state_folder() / "daemon.json"


def read_state() -> DaemonState | None:
    """What the file says, None if there is none or it cannot be read as one.

    Raises SettingsError as `settings.state_folder` does.
    """
    file = state_file()
    try:
        return DaemonState(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def stamp_of(file: Path) -> Stamp:
    """Another one after each `write_state`, None for no file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def write_state(state: DaemonState) -> None:
    """Replace the file at once, readable by its user alone."""
    # mkstemp makes it 0600
    handle, name = tempfile.mkstemp(dir=state_folder(), prefix=".daemon-")
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(attrs.asdict(state), file)
    os.replace(name, state_file())


def remove_state(pid: int) -> None:
    """Delete the file if it is this process's."""
    found = read_state()
    if found is not None and found.pid == pid:
        state_file().unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive_lock(name: str = "daemon.lock") -> Iterator[bool]:
    """Hold a lock file for the block; gives False at once if another process has it.

    The system frees it when the process ends, however it ends.
    """
    path = state_folder() / name
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _try_lock(handle)
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

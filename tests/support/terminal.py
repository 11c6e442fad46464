"""A real terminal for programs that draw on one: tmux, seen through its screen."""

import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL_S = 0.05
PATIENCE_S = 45.0
AGAIN_S = 3.0
COLUMNS, ROWS = 100, 30


class Terminal:
    """One program in a terminal of its own."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
    ) -> None:
        """folder: for the terminal's own files."""
        self._socket = folder / "tmux"
        self._environment = {**environment, "TERM": "xterm-256color"}
        self.pictures = folder
        config = folder / "tmux.conf"
        config.write_text(
            "set -g default-terminal tmux-256color\n"
            "set -g escape-time 0\nset -g status off\nset -g remain-on-exit on\n"
        )
        size = ["-x", str(COLUMNS), "-y", str(ROWS)]
        program = shlex.join(command)
        self._tmux("-f", str(config), "new-session", "-d", *size, program, cwd=cwd)

    def type(self, text: str) -> None:
        """Type characters, each as a key."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names: Enter, Tab, Escape, C-x, M-x."""
        self._tmux("send-keys", *keys)

    @property
    def lines(self) -> list[str]:
        """What the screen shows, without blanks at the ends of lines."""
        return [line.rstrip() for line in self._tmux("capture-pane", "-p").split("\n")]

    @property
    def coloured(self) -> str:
        """What the screen shows, with the escape sequences of its colours."""
        return self._tmux("capture-pane", "-p", "-e")

    def line_with(self, text: str) -> str:
        """The last line on the screen that holds `text`, or ""."""
        return next((line for line in self.lines[::-1] if text in line), "")

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Return once `condition` holds. Fails with the screen when it does not."""
        until(condition, what, lambda: "\n".join(self.lines))

    def insist(
        self, action: Callable[[], None], condition: Callable[[], object], what: str
    ) -> None:
        """Do `action`, again from time to time, until `condition` holds: for what is
        lost on a program that is not ready yet."""
        asked = 0.0

        def holds() -> object:
            nonlocal asked
            if condition():
                return True
            if time.monotonic() > asked + AGAIN_S:
                action()
                asked = time.monotonic()
            return False

        self.until(holds, what)

    def until_shows(self, text: str) -> str:
        """The line that shows `text`, once there is one."""
        self.until(lambda: self.line_with(text), f"showed {text!r}")
        return self.line_with(text)

    def close(self) -> None:
        """End the program and its terminal."""
        self._tmux("kill-server")

    def _tmux(self, *words: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *words],
            env=self._environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"tmux {words}: {done.stderr}"
        return done.stdout


def until(
    condition: Callable[[], object], what: str, evidence: Callable[[], str] = str
) -> None:
    """Return once `condition` holds; fail with what can be seen when it does not."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, f"never {what}\n{evidence()}"
        time.sleep(POLL_S)

"""Real `tabwise lsp` processes, each test with a state folder of its own."""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from tabwise_server.backends.daemon import process_exists
from tabwise_server.bench.client import LspClient

URI = "file:///project/example.py"
POLL_S = 0.02


def isolated(folder: Path, **more: str) -> dict[str, str]:
    """An environment without the user's settings, its state in `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TABWISE_")}
    config = folder / "tabwise.toml"
    config.write_text("")
    return {
        **kept,
        "TABWISE_STATE_DIR": str(folder / "state"),
        "TABWISE_LSP_MIN_CONFIDENCE": "0",  # a random model is never sure
        "TABWISE_CONFIG": str(config),
        **more,
    }


@contextlib.asynccontextmanager
async def language_server(
    environment: Mapping[str, str], initialize: bool = True, **options: object
) -> AsyncIterator[LspClient]:
    """A server that is stopped at the end; its log is shown if the test fails."""
    with tempfile.TemporaryFile() as log:
        client = await LspClient.start(environment=environment, stderr=log.fileno())
        try:
            if initialize:
                await client.initialize(**options)  # type: ignore[arg-type]
            yield client
        finally:
            await client.stop()
            log.seek(0)
            print(log.read().decode(errors="replace"))


async def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Return once `condition` holds: for what only another process knows."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  no event crosses processes
            await asyncio.sleep(POLL_S)


async def end_daemon(folder: Path) -> None:
    """End the daemon of a state folder, if there is one, and wait for its end."""
    pid = daemon_pid(folder)
    if pid is not None and process_exists(pid):
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not process_exists(pid))


def daemon_pid(folder: Path) -> int | None:
    """The pid in a state folder's state file."""
    import json

    try:
        return int(json.loads((folder / "daemon.json").read_text())["pid"])
    except (OSError, ValueError):
        return None

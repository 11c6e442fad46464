"""`tabwise top`: a backend's figures on the terminal, while they change."""

from __future__ import annotations

import argparse
import asyncio
import time

from rich.console import Console, RenderableType
from rich.live import Live

from tabwise_server.backends.daemon import client_of, process_exists
from tabwise_server.backends.http import Endpoint
from tabwise_server.backends.keys import read_key
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.daemon_state import read_state
from tabwise_server.errors import BackendUnavailable, TabwiseError
from tabwise_server.metrics_text import read_metrics
from tabwise_server.settings import BackendSettings
from tabwise_server.settings_sources import load_settings
from tabwise_server.top.figures import Look, Looks
from tabwise_server.top.view import screen, trouble_screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", help="of a backend; by default the one that is set, else the daemon"
    )
    parser.add_argument(
        "--every-s", type=float, default=1.0, help="between two looks, in seconds"
    )
    parser.add_argument(
        "--once", action="store_true", help="two looks, print what they say, and leave"
    )


def run(arguments: argparse.Namespace) -> int:
    every_s = max(arguments.every_s, 0.1)
    settings = load_settings({"backend": {"url": arguments.url}}).backend
    return asyncio.run(_top(client(settings), every_s, arguments.once))


def client(settings: BackendSettings) -> TabwiseBackend:
    """Of the backend that is set (the first, of several), else of the shared daemon.
    Raises BackendUnavailable if there is none."""
    if settings.url is not None:
        url = settings.url.partition(",")[0].strip()
        return TabwiseBackend(Endpoint(url, read_key(settings.api_key)))
    state = read_state()
    if state is None or not process_exists(state.pid):
        raise BackendUnavailable("no daemon runs here; name a backend with --url")
    return client_of(state, settings)


async def _top(backend: TabwiseBackend, every_s: float, once: bool) -> int:
    looks, console = Looks(), Console()
    try:
        if once:
            await _look(backend, looks)
            await asyncio.sleep(every_s)
            console.print(await _look(backend, looks))
            return 0
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(await _shown(backend, looks), refresh=True)
                await asyncio.sleep(every_s)
    finally:
        await backend.close()


async def _look(backend: TabwiseBackend, looks: Looks) -> RenderableType:
    """Raises TabwiseError where the backend does not answer."""
    health = await backend.health()
    looks.add(Look(time.monotonic(), read_metrics(await backend.metrics())))
    return screen(backend.url, health, looks)


async def _shown(backend: TabwiseBackend, looks: Looks) -> RenderableType:
    """What there is to see: the figures, or why there are none, until there are."""
    try:
        return await _look(backend, looks)
    except TabwiseError as error:
        return trouble_screen(backend.url, str(error))

"""Which backend the settings mean."""

from __future__ import annotations

from tabwise_server.backends.daemon import DaemonBackend
from tabwise_server.backends.protocol import Backend, StatusListener, ignore_status
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.settings import BackendSettings


def open_backend(
    settings: BackendSettings, on_status: StatusListener = ignore_status
) -> Backend:
    """A remote backend where a URL is set, else this user's shared daemon."""
    if settings.url is None:
        return DaemonBackend(settings, on_status)
    return TabwiseBackend(
        settings.url, settings.api_key, settings.connect_timeout_ms, on_status
    )

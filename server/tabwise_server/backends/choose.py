"""Which backend the settings mean."""

from __future__ import annotations

from tabwise_server.backends.daemon import DaemonBackend
from tabwise_server.backends.http import Endpoint, Tls
from tabwise_server.backends.keys import read_key
from tabwise_server.backends.llamacpp import LlamaCppBackend
from tabwise_server.backends.openai import OpenAIBackend
from tabwise_server.backends.pool import PoolBackend
from tabwise_server.backends.protocol import (
    Backend,
    Health,
    Status,
    StatusListener,
    ignore_status,
)
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.backends.templates import template_named
from tabwise_server.errors import SettingsError
from tabwise_server.settings import BackendSettings
from tabwise_server.wire import CompletionRequest, CompletionResponse


def open_backend(
    settings: BackendSettings, on_status: StatusListener = ignore_status
) -> Backend:
    """The pool of the addresses that are set, else this user's shared daemon.

    Settings that cannot work give a backend that says so when it is asked.
    """
    if settings.url is None:
        return DaemonBackend(settings, on_status)
    try:
        return PoolBackend(open_clients(settings), settings.hedge_ms, on_status)
    except SettingsError as error:
        return UnusableBackend(error, on_status)


def open_clients(settings: BackendSettings) -> dict[str, Backend]:
    """A client for each address in settings.url. Raises SettingsError."""
    urls = dict.fromkeys((settings.url or "").replace(",", " ").split())
    if not urls:
        raise SettingsError("url must name an address, got none ([backend])")
    key = read_key(settings.api_key)
    tls = Tls(
        ca_file=settings.ca_file,
        client_cert=settings.client_cert,
        client_key=settings.client_key,
    )
    return {
        url: _client(Endpoint(url, key, settings.connect_timeout_ms, tls), settings)
        for url in urls
    }


def _client(endpoint: Endpoint, settings: BackendSettings) -> Backend:
    if settings.kind == "llamacpp":
        return LlamaCppBackend(endpoint)
    if settings.kind == "tabwise":
        return TabwiseBackend(endpoint)
    if settings.model is None:
        raise SettingsError('model must be set for kind "openai" ([backend])')
    template = template_named(settings.template, settings.model)
    return OpenAIBackend(endpoint, settings.model, template)


class UnusableBackend:
    """Stands where the settings are wrong: the editor's status names what is."""

    def __init__(self, error: SettingsError, on_status: StatusListener) -> None:
        self._error = error
        self._on_status = on_status

    async def start(self) -> None:
        self._on_status(Status("offline", str(self._error)))

    async def complete(self, request: CompletionRequest) -> CompletionResponse:
        raise self._error

    async def health(self) -> Health:
        raise self._error

    async def close(self) -> None:
        """Nothing is open."""

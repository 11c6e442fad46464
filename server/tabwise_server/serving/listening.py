"""The address that is listened on, and its certificate."""

from __future__ import annotations

import ssl

from aiohttp import web

from tabwise_server.errors import SettingsError
from tabwise_server.settings import ServeSettings

# Connections that wait to be accepted; the system's own limit may be lower. One that
# finds no room is lost, and its client tries again after a second.
BACKLOG = 4096


async def listen(
    runner: web.AppRunner, settings: ServeSettings, tls: ssl.SSLContext | None
) -> int:
    """Listen; returns the port. Raises SettingsError if it is taken, or if it is to be
    shared and no number says which."""
    if settings.reuse_port and settings.port == 0:
        raise SettingsError(
            "reuse_port shares a port by its number; name one by --port"
        )
    site = web.TCPSite(
        runner,
        settings.host,
        settings.port,
        ssl_context=tls,
        backlog=BACKLOG,
        reuse_port=settings.reuse_port or None,
    )
    try:
        await site.start()
    except ValueError as error:
        raise SettingsError(f"this system shares no port: {error}") from error
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "choose another with --port"
        ) from error
    return int(runner.addresses[0][1])


def tls_context(settings: ServeSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with the certificate that is set; None without one. Raises
    SettingsError."""
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, settings)
    return context


def load_certificate(context: ssl.SSLContext, settings: ServeSettings) -> None:
    """Show the certificate as it lies now, from the next connection on. Raises
    SettingsError, and then nothing has changed."""
    assert settings.tls_cert is not None
    try:
        # tried in another first: a half-loaded one would serve nobody
        for tried in (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), context):
            tried.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"tls_cert {settings.tls_cert} cannot be used: {error}"
        ) from error

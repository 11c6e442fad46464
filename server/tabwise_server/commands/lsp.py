"""`tabwise lsp`: run the language server."""

from __future__ import annotations

import argparse
import logging

from tabwise_server.errors import SettingsError
from tabwise_server.settings import LspSettings
from tabwise_server.settings_sources import load_leniently

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--stdio", action="store_true", help="over stdin and stdout (the default)"
    )
    how.add_argument("--tcp", metavar="HOST:PORT", help="over TCP, for one client")
    how.add_argument("--ws", metavar="HOST:PORT", help="over WebSocket, for one client")
    parser.add_argument("--log-file", help="log here instead of stderr")
    parser.add_argument("--log-level", help="DEBUG, INFO, WARNING or ERROR")


def run(arguments: argparse.Namespace) -> int:
    flags = {"log_file": arguments.log_file, "log_level": arguments.log_level}
    settings, complaints = load_leniently({"lsp": flags})
    complaints += _start_logging(settings.lsp)
    from tabwise_server.lsp import transport
    from tabwise_server.lsp.handlers import make_server

    server = make_server(settings, complaints)
    address = arguments.tcp or arguments.ws
    if not address:
        return transport.run_stdio(server)
    serve = transport.run_tcp if arguments.tcp else transport.run_websocket
    host, port = transport.parse_address(address)
    try:
        return serve(server, host, port)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {address}: {error}; name an address of this machine and "
            "a free port, e.g. 127.0.0.1:0"
        ) from error


def _start_logging(settings: LspSettings) -> list[str]:
    """Log to stderr or a file; pygls stays silent, for it logs messages whole.

    Returns what is wrong with the file, if it cannot be written.
    """
    logging.getLogger("pygls").setLevel(logging.CRITICAL + 1)
    level, file = settings.log_level, settings.log_file
    try:
        logging.basicConfig(filename=file, level=level, format=_FORMAT)
    except OSError as error:
        logging.basicConfig(level=level, format=_FORMAT)
        return [f"log_file {file} cannot be written: {error.strerror}"]
    return []

"""`tabwise bench NAME`: each of our figures by one command."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from types import MappingProxyType

# name: (module with configure and run, one line of help)
MEASUREMENTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "keystrokes": (
            "tabwise_server.bench.keystrokes",
            "what an editor's user would feel, through the language server",
        ),
        "engines": (
            "tabwise_server.bench.engines",
            "prefill and decoding beside llama.cpp",
        ),
        "overhead": (
            "tabwise_server.bench.overhead",
            "what the language server adds to a completion",
        ),
        "load": (
            "tabwise_server.bench.load",
            "many typing users against one backend",
        ),
        "overload": (
            "tabwise_server.bench.overload",
            "ten times more requests than a backend can serve",
        ),
        "faults": (
            "tabwise_server.bench.faults.run",
            "people type while engines, Redis and backends break",
        ),
        "soak": (
            "tabwise_server.bench.soak",
            "whether the backend grows while people type",
        ),
    }
)


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", required=True, metavar="NAME")
    for name, (module, summary) in MEASUREMENTS.items():
        sub = commands.add_parser(name, help=summary, description=summary)
        importlib.import_module(module).configure(sub)


def run(arguments: argparse.Namespace) -> int:
    module = importlib.import_module(MEASUREMENTS[arguments.what][0])
    status: int = module.run(arguments)
    return status

"""`tabwise bench keystrokes`: measure what an editor's user would feel."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import attrs

from tabwise_server.backends import daemon

# Long enough, real, and not part of what our model was trained on.
DEFAULT_FILE = Path(daemon.__file__)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["keystrokes"])
    parser.add_argument(
        "--file", type=Path, default=DEFAULT_FILE, help="Python source to type"
    )
    parser.add_argument(
        "--lines", type=int, default=200, help="lines open before typing begins"
    )
    parser.add_argument("--keystrokes", type=int, default=300, help="how many")
    parser.add_argument(
        "--think-ms",
        type=float,
        default=100.0,
        help="from one keystroke to the next, unless the answer takes longer",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace) -> int:
    from tabwise_server.bench.keystrokes import replay

    report = asyncio.run(
        replay(
            arguments.file, arguments.lines, arguments.keystrokes, arguments.think_ms
        )
    )
    if arguments.json:
        print(json.dumps(attrs.asdict(report)))
        return 0
    for name, value in attrs.asdict(report).items():
        shown = "-" if value is None else value
        print(f"{name.replace('_', ' '):<20}{shown}")
    return 0

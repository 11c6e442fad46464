"""`tabwise complete FILE:LINE:COLUMN`: one suggestion, as an editor would show it.

The local daemon is told of the file's repository as of an editor's workspace, and
copies from there once it has read it: within seconds of the first question about it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

import attrs

from tabwise_server import __version__
from tabwise_server.backends.choose import open_backend
from tabwise_server.errors import BadRequest
from tabwise_server.lsp.configuration import Configuration, folder_to_remember
from tabwise_server.lsp.reading import Reader
from tabwise_server.lsp.session import options_of
from tabwise_server.settings import Settings
from tabwise_server.settings_sources import load_settings
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.positions import content_length, split_lines
from tabwise_server.suggest.privacy import is_secret
from tabwise_server.suggest.prompt import build_request, however_unlikely
from tabwise_server.suggest.shape import ShapeOptions, shape

PATIENCE_MS = 10_000.0  # nobody is typing


@attrs.frozen(kw_only=True)
class Result:
    """text: to insert at the place, None for nothing fit to show; raw: before shaping;
    confidence: the probability of this very text."""

    text: str | None
    raw: str
    confidence: float
    tokens: int
    model: str
    latency_ms: float


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="FILE:LINE:COLUMN", help="both counted from 1")
    parser.add_argument("--json", action="store_true", help="print all that is known")


def run(arguments: argparse.Namespace) -> int:
    place = read_place(arguments.place)
    result = asyncio.run(complete(place, load_settings()))
    if arguments.json:
        print(json.dumps(attrs.asdict(result)))
    elif result.text is not None:
        print(result.text)
    else:
        print("nothing fit to show here", file=sys.stderr)
    return 0


async def complete(place: Place, settings: Settings) -> Result:
    """Ask the configured backend, starting the shared daemon if need be."""
    place, folder = in_repository(place)
    configuration = Configuration(settings)
    configuration.refresh([folder] if folder else [])
    lsp = configuration.lsp(folder, place.language, place.path)
    for complaint in configuration.take_complaints():
        print(complaint, file=sys.stderr)
    file = str((folder or Path()).joinpath(place.path or "").resolve())
    if not Reader().may_read(file, folder, lsp):
        raise BadRequest(
            f"{file} is left alone, by lsp.secret_patterns or lsp.skip_ignored"
        )
    options = attrs.evolve(options_of(lsp), deadline_ms=PATIENCE_MS)
    request = build_request(place, options)
    backend = open_backend(settings.backend)
    try:
        health = await backend.health()  # a daemon that has to start is given its time
        if settings.backend.url is None and health.version == __version__:
            workspace = folder_to_remember(folder, place, lsp)
            request = attrs.evolve(request, workspace=workspace)
        began = time.perf_counter()
        response = await backend.complete(request)
        if response.finish == "unsure":  # what it thought of, all the same
            response = await backend.complete(however_unlikely(request))
        latency_ms = (time.perf_counter() - began) * 1000
    finally:
        await backend.close()
    confidence = response.confidence
    shaping = ShapeOptions(min_confidence=options.min_confidence)
    return Result(
        text=shape(response.text, place, confidence, shaping),
        raw=response.text,
        confidence=round(confidence, 4),
        tokens=response.tokens,
        model=response.model,
        latency_ms=round(latency_ms, 1),
    )


def in_repository(place: Place) -> tuple[Place, Path | None]:
    """`place` with its path from the innermost git repository around it, and where
    that is; as it was where there is none."""
    file = Path(place.path or "").resolve()
    folder = next((f for f in file.parents if (f / ".git").exists()), None)
    if folder is None:
        return place, None
    return attrs.evolve(place, path=file.relative_to(folder).as_posix()), folder


def read_place(text: str) -> Place:
    """The place that FILE:LINE:COLUMN names. Raises BadRequest saying what is wrong."""
    name, _, rest = text.rpartition(":")
    name, _, line_text = name.rpartition(":")
    numbers = line_text, rest
    if not name or not all(part.isascii() and part.isdigit() for part in numbers):
        raise BadRequest(f"must be FILE:LINE:COLUMN, got {text!r}")
    if is_secret(str(Path(name).absolute())):
        raise BadRequest(f"{name} may hold secrets; such files are never read")
    try:
        source = Path(name).read_bytes().decode("utf-8")
    except OSError as error:
        raise BadRequest(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{name} is not UTF-8 text") from error
    return place_in(source, int(line_text), int(rest), name)


def place_in(source: str, line: int, column: int, path: str) -> Place:
    """The place at a line and column, both from 1; columns are characters."""
    lines = split_lines(source)
    if not 1 <= line <= len(lines):
        raise BadRequest(f"line must be 1..{len(lines)}, got {line}", field="line")
    width = content_length(lines[line - 1])
    if not 1 <= column <= width + 1:
        raise BadRequest(
            f"column must be 1..{width + 1} on line {line}, got {column}",
            field="column",
        )
    offset = sum(map(len, lines[: line - 1])) + column - 1
    place = Place(prefix=source[:offset], suffix=source[offset:], path=path)
    return attrs.evolve(place, language="python" if place.is_python else None)

"""Typing replayed through a real `tabwise lsp`: how long each keystroke's answer takes.

The person of `typist` works in a few files. After each stroke the client asks for ghost
text; an answer that has not come by the next stroke is cancelled, as an editor does.
The same strokes can be replayed with llama.cpp's server behind the language server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs

from tabwise_server.backends import daemon, pool
from tabwise_server.backends.daemon import client_of
from tabwise_server.bench.client import LspClient
from tabwise_server.bench.editor import Counters, Editor
from tabwise_server.bench.machine import describe_machine, resident_mb
from tabwise_server.bench.replayed import Report, ratios, summarise, table
from tabwise_server.bench.rival import export_gguf, llama_cpp_server
from tabwise_server.bench.typist import Stroke, make_script
from tabwise_server.commands.stop import end_process
from tabwise_server.daemon_state import DaemonState, read_state
from tabwise_server.errors import BadRequest, SettingsError
from tabwise_server.lsp import session
from tabwise_server.metrics_text import read_metrics
from tabwise_server.settings import BackendSettings

READY_S = 120.0
REQUESTS = "code_completion_requests_total"
LEFT = "tabwise_client_disconnects_total"
# Long enough, real, and not part of what our model was trained on.
DEFAULT_FILES = [Path(module.__file__ or "") for module in (daemon, pool, session)]
# What fits into llama.cpp's context: it cuts what does not at every keystroke anew.
RIVAL_PREFIX_CHARS, RIVAL_SUFFIX_CHARS = 1_000, 300


@attrs.frozen
class Script:
    """What is typed where. texts: of the files at first."""

    files: Sequence[Path]
    texts: Sequence[str]
    strokes: Sequence[Stroke]
    speed: float

    def editor(self, client: LspClient, counters: Counters | None = None) -> Editor:
        uris = [file.resolve().as_uri() for file in self.files]
        return Editor(client, uris, list(self.texts), counters)

    @property
    def workspace(self) -> str:
        """The URI of the folder that holds all files."""
        folders = [str(file.resolve().parent) for file in self.files]
        return Path(os.path.commonpath(folders)).as_uri()


async def replay_daemon(script: Script) -> Report:
    """Through the language server and a shared daemon of this run's own."""
    began = time.perf_counter()
    async with own_state(), language_server({}, script.workspace) as client:
        cold_start_s = time.perf_counter() - began
        state = read_state()
        if state is None:
            raise SettingsError("unset backend.url: this measures the daemon")
        try:
            editor = script.editor(client, lambda: _metrics(state))
            before = await _metrics(state)
            await editor.type(script.strokes, script.speed)
            after = await _metrics(state)
            memory = resident_mb(client.process.pid), resident_mb(state.pid)
        finally:
            end_process(state.pid)
    reached = sum(
        value - before.get(name, 0.0)
        for name, value in after.items()
        if name.startswith((REQUESTS, LEFT))
    )
    return summarise("tabwise", editor, cold_start_s, memory, reached)


async def replay_remote(
    system: str, environment: dict[str, str], backend_pid: int, script: Script
) -> Report:
    """Through the language server with another backend behind it."""
    began = time.perf_counter()
    async with own_state(), language_server(environment, script.workspace) as client:
        cold_start_s = time.perf_counter() - began
        editor = script.editor(client)
        await editor.type(script.strokes, script.speed)
        memory = resident_mb(client.process.pid), resident_mb(backend_pid)
    return summarise(system, editor, cold_start_s, memory, None)


async def replay_llama_cpp(dtype: str, threads: int, script: Script) -> list[Report]:
    """On llama.cpp: its own /infill, and with our prompts on /v1/completions."""
    kinds = {
        f"llama.cpp {dtype}, /infill": {"KIND": "llamacpp"},
        f"llama.cpp {dtype}, our prompt": {"KIND": "openai", "MODEL": "tabwise"},
    }
    budget = {
        "TABWISE_LSP_MAX_PREFIX_CHARS": str(RIVAL_PREFIX_CHARS),
        "TABWISE_LSP_MAX_SUFFIX_CHARS": str(RIVAL_SUFFIX_CHARS),
    }
    reports = []
    with tempfile.TemporaryDirectory(prefix="tabwise-bench-") as folder:
        gguf = Path(folder) / "checkpoint.gguf"
        await asyncio.to_thread(export_gguf, "default", dtype, gguf)
        for system, options in kinds.items():
            async with llama_cpp_server(gguf, threads=threads) as rival:
                named = {f"TABWISE_BACKEND_{k}": v for k, v in options.items()}
                environment = budget | named | {"TABWISE_BACKEND_URL": rival.url}
                reports.append(
                    await replay_remote(system, environment, rival.pid, script)
                )
    return reports


@contextlib.asynccontextmanager
async def language_server(
    environment: dict[str, str], workspace: str
) -> AsyncIterator[LspClient]:
    """A language server whose backend is ready. environment: over our own; workspace:
    the URI of the folder that is open."""
    client = await LspClient.start(
        environment={**os.environ, **environment}, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await client.initialize(rootUri=workspace)
        await client.wait_until_ready(READY_S)
        yield client
    finally:
        await client.stop()


@contextlib.asynccontextmanager
async def own_state() -> AsyncIterator[None]:
    """A state folder of this run's own for the block."""
    name = "TABWISE_STATE_DIR"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory(prefix="tabwise-bench-") as folder:
        os.environ[name] = folder
        try:
            yield
        finally:
            del os.environ[name]
            if before is not None:
                os.environ[name] = before


async def _metrics(state: DaemonState) -> dict[str, float]:
    client = client_of(state, BackendSettings())
    try:
        return read_metrics(await client.metrics())
    finally:
        await client.close()


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file", type=Path, nargs="+", default=DEFAULT_FILES, help="what is typed"
    )
    parser.add_argument("--strokes", type=int, default=400, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the typing")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time")
    parser.add_argument(
        "--rival", choices=["llamacpp"], help="the same strokes on llama.cpp's server"
    )
    parser.add_argument(
        "--rival-threads", type=int, default=2, help="of llama.cpp's server"
    )
    parser.add_argument("--out", type=Path, help="write JSON here")


def run(arguments: argparse.Namespace) -> int:
    try:
        sources = [file.read_text(encoding="utf-8") for file in arguments.file]
    except OSError as error:
        raise BadRequest(f"cannot read a file to type: {error}") from error
    texts, strokes = make_script(sources, arguments.strokes, arguments.seed)
    if not strokes:
        raise BadRequest("the files have too few lines to type")
    script = Script(arguments.file, texts, strokes, arguments.speed)
    reports = asyncio.run(_measure(arguments, script))
    if arguments.out:
        found = {
            "machine": describe_machine(),
            "speed": arguments.speed,
            "files": [file.name for file in arguments.file],
            "runs": [attrs.asdict(report) for report in reports],
            "ratios": ratios(reports),
        }
        arguments.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(describe_machine())
    return 0


async def _measure(arguments: argparse.Namespace, script: Script) -> list[Report]:
    reports = [await replay_daemon(script)]
    print("\n".join(table(reports[0], reports[0])), flush=True)
    if arguments.rival:
        for dtype in ("q8_0", "fp16"):
            for report in await replay_llama_cpp(
                dtype, arguments.rival_threads, script
            ):
                reports.append(report)
                print("\n".join(table(report, reports[0])), flush=True)
    return reports

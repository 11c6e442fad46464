"""Typing replayed through a real `tabwise lsp`: how long each keystroke's answer takes.

A file's first lines are opened, the lines after them are typed at their end, one
character at a time. After each the client asks for ghost text and waits for the answer,
then thinks for the rest of its think time.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tabwise_server.backends.daemon import client_of
from tabwise_server.bench.client import LspClient, Suggestion
from tabwise_server.bench.machine import describe_machine, resident_mb
from tabwise_server.commands.stop import end_process
from tabwise_server.daemon_state import DaemonState, read_state
from tabwise_server.errors import BadRequest, SettingsError
from tabwise_server.metrics_text import read_metrics
from tabwise_server.settings import BackendSettings

URI = "file:///bench/typed.py"
READY_S = 120.0
REQUESTS = 'code_completion_requests_total{status="success"}'
PROMPT = "tabwise_engine_prompt_tokens_total"
CACHED = "tabwise_engine_cached_tokens_total"


@attrs.frozen(kw_only=True)
class Report:
    """Latencies in milliseconds from sending the request to reading its answer.

    from_memory: share of answers that did not reach the backend (typing through what
    was shown). cached_tokens: share of prompt tokens found in the prefix cache.
    """

    keystrokes: int
    shown: int
    median_ms: float
    p95_ms: float
    max_ms: float
    backend_median_ms: float | None
    from_memory: float
    cached_tokens: float | None
    cold_start_s: float
    server_mb: float | None
    daemon_mb: float | None
    think_ms: float
    lines: int
    file: str
    machine: str


async def replay(
    file: Path, lines: int = 200, keystrokes: int = 300, think_ms: float = 100.0
) -> Report:
    """Measure; uses a daemon of its own, in a temporary state folder."""
    opened, typed = split_source(file, lines, keystrokes)
    with tempfile.TemporaryDirectory(prefix="tabwise-bench-") as folder:
        before = os.environ.get("TABWISE_STATE_DIR")
        os.environ["TABWISE_STATE_DIR"] = folder
        try:
            return await _replay(opened, typed, think_ms, file, lines)
        finally:
            _restore("TABWISE_STATE_DIR", before)


def split_source(file: Path, lines: int, keystrokes: int) -> tuple[str, str]:
    """What is opened and what is typed. Raises BadRequest for too short a file."""
    try:
        source = file.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise BadRequest(f"cannot read {file}: {error.strerror}") from error
    if len(source) <= lines:
        raise BadRequest(f"{file} must have over {lines} lines, got {len(source)}")
    return "".join(source[:lines]), "".join(source[lines:])[:keystrokes]


async def _replay(
    opened: str, typed: str, think_ms: float, file: Path, lines: int
) -> Report:
    began = time.perf_counter()
    client = await LspClient.start(stderr=asyncio.subprocess.DEVNULL)
    try:
        await client.initialize()
        await client.wait_until_ready(READY_S)
        cold_start_s = time.perf_counter() - began
        state = _running_daemon()
        client.open(URI, opened)
        await client.inline_completion(URI, (lines, 0))  # the first reads the file
        before = await _metrics(state)
        answers = await type_text(client, typed, lines, think_ms / 1000)
        after = await _metrics(state)
        server_mb, daemon_mb = resident_mb(client.process.pid), resident_mb(state.pid)
    finally:
        await client.stop()
        end_daemon()
    return summarise(
        answers,
        {name: after.get(name, 0.0) - before.get(name, 0.0) for name in after},
        cold_start_s=round(cold_start_s, 2),
        server_mb=server_mb,
        daemon_mb=daemon_mb,
        think_ms=think_ms,
        lines=lines,
        file=file.name,
        machine=describe_machine(),
    )


async def type_text(
    client: LspClient, text: str, line: int, think_s: float
) -> list[Suggestion]:
    """Type `text` from the beginning of `line` on; the answer to each character."""
    answers = []
    at = (line, 0)
    for version, char in enumerate(text, start=2):
        began = time.perf_counter()
        client.change(URI, version, char, at)
        width = len(char.encode("utf-16-le")) // 2
        at = (at[0] + 1, 0) if char == "\n" else (at[0], at[1] + width)
        answers.append(await client.inline_completion(URI, at))
        await asyncio.sleep(max(0.0, think_s - (time.perf_counter() - began)))
    return answers


def summarise(
    answers: Sequence[Suggestion], counted: Mapping[str, float], **known: Any
) -> Report:
    """counted: by how much the daemon's counters grew meanwhile."""
    times = sorted(answer.latency_ms for answer in answers)
    asked = round(counted.get(REQUESTS, 0.0))
    prompt = counted.get(PROMPT, 0.0)
    return Report(
        keystrokes=len(times),
        shown=sum(answer.text is not None for answer in answers),
        median_ms=round(statistics.median(times), 1),
        p95_ms=round(times[max(0, -(-len(times) * 95 // 100) - 1)], 1),
        max_ms=round(times[-1], 1),
        # those from memory are the quickest
        backend_median_ms=round(statistics.median(times[-asked:]), 1)
        if asked
        else None,
        from_memory=round(1 - asked / len(times), 3),
        cached_tokens=round(counted.get(CACHED, 0.0) / prompt, 3) if prompt else None,
        **known,
    )


def end_daemon() -> None:
    """End the daemon of this state folder, if there is one."""
    state = read_state()
    if state is not None:
        end_process(state.pid)


def _running_daemon() -> DaemonState:
    state = read_state()
    if state is None:
        raise SettingsError("backend.url is set; unset it: this measures the daemon")
    return state


async def _metrics(state: DaemonState) -> dict[str, float]:
    client = client_of(state, BackendSettings())
    try:
        return read_metrics(await client.metrics())
    finally:
        await client.close()


def _restore(name: str, value: str | None) -> None:
    if value is None:
        del os.environ[name]
    else:
        os.environ[name] = value

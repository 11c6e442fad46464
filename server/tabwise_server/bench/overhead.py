"""What the language server adds to a completion: everything but the backend.

The backend is one that takes WORK_MS and computes nothing, over real HTTP; what it took
is subtracted. What is left is reading the message, keeping the text, making the prompt,
an HTTP round trip, shaping, and writing the answer. The same round trip alone is
measured beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator

import attrs
from aiohttp import ClientSession, web

from tabwise_server.bench.client import LspClient, inline_params
from tabwise_server.bench.machine import describe_machine, resident_mb
from tabwise_server.wire import CompletionResponse, Timings, unstructure

URI = "file:///project/overhead.py"
ANSWER = "compute(value, 1)"
READY_S = 30.0
WORK_MS = 10.0
CALL = "compute_value("
FUNCTION = (
    "def function_NUMBER(first, second):",
    '    """Say what NUMBER is — é, ü, 😀."""',
    "    for index in range(first):",
    "        if index % 2 and second is not None:",
    "            print(f'{index}: {second}')",
    f"    value = '😀' + {CALL}NUMBER)",
    "    return value",
    "",
)


@attrs.frozen(kw_only=True)
class Figures:
    """Milliseconds, from asking to the answer. memory: the server's own, in 2**20
    bytes, None where the system does not say."""

    asked_ms: list[float]
    typed_through_ms: list[float]
    popup_ms: list[float]
    round_trip_ms: list[float]
    memory_mb: float | None


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lines", type=int, default=5_000, help="of the document")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace) -> int:
    figures = asyncio.run(measure(arguments.lines, arguments.requests))
    if arguments.json:
        print(json.dumps(attrs.asdict(figures)))
        return 0
    print(describe_machine())
    print(
        f"{arguments.lines} lines with emoji, UTF-16; {arguments.requests} requests\n"
    )
    rows = {
        "asked of the backend": figures.asked_ms,
        "typed through": figures.typed_through_ms,
        "popup": figures.popup_ms,
        "the HTTP round trip alone": figures.round_trip_ms,
    }
    print(f"{'':<28}{'median ms':>10}{'95 % ms':>10}")
    for name, values in rows.items():
        print(f"{name:<28}{statistics.median(values):>10.2f}{p95(values):>10.2f}")
    print(f"\nmemory: {figures.memory_mb} MB")
    return 0


async def measure(lines: int, requests: int) -> Figures:
    """Type into a large document, and ask after every keystroke."""
    spent_ms: list[float] = []
    async with idle_backend(spent_ms) as url, language_server(url) as client:
        round_trip = await _round_trips(url, requests)
        text = "\n".join(document(lines))
        client.open(URI, text)
        asked, through, popup = [], [], []
        for number in range(requests):
            line = (number * 7_919 // 8 * 8 + 5) % lines
            at = (line, len("    value = '😀' + ") + 1)  # the emoji is two units
            rest = f"{CALL}{line})"
            end = (line, at[1] + len(rest))
            client.change(URI, 3 * number + 2, "", at, end)
            asked_ms = (await _timed(client, "inlineCompletion", at))[0]
            asked.append(asked_ms - spent_ms[-1])
            client.change(URI, 3 * number + 3, ANSWER[0], at)
            after = (line, at[1] + 1)
            through_ms, items = await _timed(client, "inlineCompletion", after)
            assert items[0]["insertText"] == ANSWER[1:]
            through.append(through_ms)
            popup.append((await _timed(client, "completion", after))[0])
            client.change(URI, 3 * number + 4, rest, at, after)
        memory = resident_mb(client.process.pid)
    return Figures(
        asked_ms=asked,
        typed_through_ms=through,
        popup_ms=popup,
        round_trip_ms=round_trip,
        memory_mb=memory,
    )


def document(lines: int) -> list[str]:
    """Python whose sixth line of eight ends in a call of CALL."""
    return [
        FUNCTION[number % len(FUNCTION)].replace("NUMBER", str(number))
        for number in range(lines)
    ]


@contextlib.asynccontextmanager
async def idle_backend(spent_ms: list[float]) -> AsyncIterator[str]:
    """The address of a backend that waits and answers; appends how long it took."""
    body = json.dumps(unstructure(_response())).encode()

    async def complete(request: web.Request) -> web.Response:
        began = time.perf_counter()
        await request.read()
        if request.content_type == "application/json":
            await asyncio.sleep(WORK_MS / 1000)
        spent_ms.append((time.perf_counter() - began) * 1000)
        return web.Response(body=body, content_type="application/json")

    async def health(request: web.Request) -> web.Response:
        return web.json_response({"status": "healthy", "model_loaded": True})

    app = web.Application(client_max_size=4_000_000)
    app.router.add_post("/v1/tabwise/complete", complete)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def language_server(url: str) -> AsyncIterator[LspClient]:
    """A server of this measurement's own, with no settings but the address."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TABWISE_")}
    with tempfile.TemporaryDirectory(prefix="tabwise-bench-") as folder:
        environment = {
            **kept,
            "TABWISE_STATE_DIR": folder,
            "TABWISE_BACKEND_URL": url,
            "TABWISE_LSP_LOG_LEVEL": "WARNING",
        }
        client = await LspClient.start(environment=environment)
        try:
            await client.initialize()
            await client.wait_until_ready(READY_S)
            yield client
        finally:
            await client.stop()


async def _timed(
    client: LspClient, method: str, at: tuple[int, int]
) -> tuple[float, list[dict[str, str]]]:
    began = time.perf_counter()
    result = await client.request(f"textDocument/{method}", inline_params(URI, at))
    return (time.perf_counter() - began) * 1000, result


async def _round_trips(url: str, requests: int) -> list[float]:
    """What asking costs without us: a request of the usual size, and its answer."""
    taken = []
    body = b"x" * 30_000
    async with ClientSession() as http:
        for _ in range(requests):
            began = time.perf_counter()
            async with http.post(f"{url}/v1/tabwise/complete", data=body) as answer:
                await answer.read()
            taken.append((time.perf_counter() - began) * 1000)
    return taken


def p95(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def _response() -> CompletionResponse:
    return CompletionResponse(
        text=ANSWER,
        finish="line",
        tokens=6,
        mean_logprob=-0.01,
        min_logprob=-0.05,
        prompt_tokens=400,
        cached_tokens=390,
        model="instant",
        timings=Timings(queue_ms=0, prefill_ms=0, decode_ms=0, latency_ms=0),
    )

"""The process: its stdout, its memory."""

import asyncio
import json
from typing import Any

import pytest

from support.language_server import URI, language_server, until
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import LspClient
from tabwise_server.lsp.framing import Framer, frame

Env = dict[str, str]


async def test_stdout_carries_only_the_protocol(environment: Env) -> None:
    async with language_server(environment, initialize=False) as client:
        process = client.process
        seen = bytearray()
        assert process.stdout is not None
        feed = process.stdout.feed_data

        def record(data: Any) -> None:
            seen.extend(data)
            feed(data)

        process.stdout.feed_data = record  # type: ignore[method-assign]
        await client.initialize()
        client.open(URI, "x = ")
        await client.inline_completion(URI, (0, 4))
        client.send_raw(frame(b"{"))
        await client.inline_completion(URI, (0, 3))
        await client.stop()
    bodies = list(Framer().feed(bytes(seen)))
    assert all(json.loads(body)["jsonrpc"] == "2.0" for body in bodies)
    headers = bytes(seen)
    for body in bodies:
        headers = headers.replace(body, b"", 1)
    kinds = {line.partition(b":")[0] for line in headers.split(b"\r\n") if line}
    assert kinds <= {b"Content-Length", b"Content-Type"}
    assert len(bodies) >= 4


async def test_a_print_inside_the_server_goes_to_stderr(environment: Env) -> None:
    code = (
        "import os, sys, tabwise_server.lsp.transport as t\n"
        "from tabwise_server.cli import main\n"
        "real = t._serve\n"
        "async def noisy(server, messages):\n"
        "    print('stray'); os.write(1, b'stray'); os.system('echo stray')\n"
        "    return await real(server, messages)\n"
        "t._serve = noisy\n"
        "sys.exit(main(['lsp']))\n"
    )
    import sys

    client = await LspClient.start(
        [sys.executable, "-c", code],
        environment=environment,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await client.initialize()
    client.open(URI, "x = ")
    assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"
    assert await client.stop() == 0


async def test_its_memory_stays_small_and_torch_stays_out(
    environment: Env, backend: ScriptedBackend
) -> None:
    psutil = pytest.importorskip("psutil")
    async with language_server(environment) as client:
        client.open(URI, "x = 1\n" * 2_000)
        assert (await client.inline_completion(URI, (2_000, 0))).text == "suggested()"
        process = psutil.Process(client.process.pid)
        assert process.memory_info().rss < 80 * 2**20
        names = {region.path for region in process.memory_maps()}
        assert not [name for name in names if "torch" in name]
        await until(lambda: process.is_running())

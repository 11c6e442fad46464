"""The same server over TCP and WebSocket."""

import asyncio
import json
import socket
import sys
from typing import Any

import aiohttp
import pytest

from support.language_server import URI
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import inline_params
from tabwise_server.errors import SettingsError
from tabwise_server.lsp.framing import Framer, frame
from tabwise_server.lsp.transport import parse_address

OPEN = {
    "textDocument": {"uri": URI, "languageId": "python", "version": 1, "text": "x = "}
}
CONVERSATION: list[dict[str, Any]] = [
    {"id": 1, "method": "initialize", "params": {"capabilities": {}}},
    {"method": "initialized", "params": {}},
    {"method": "textDocument/didOpen", "params": OPEN},
    {
        "id": 2,
        "method": "textDocument/inlineCompletion",
        "params": inline_params(URI, (0, 4)),
    },
    # in the same piece of the stream as the request before it
    {
        "method": "textDocument/didChange",
        "params": {
            "textDocument": {"uri": URI, "version": 2},
            "contentChanges": [{"text": "other = "}],
        },
    },
]
END = [
    b'{"jsonrpc": "2.0", "id": 3, "method": "shutdown"}',
    b'{"jsonrpc": "2.0", "method": "exit"}',
]


async def listen(environment: dict[str, str], flag: str) -> Any:
    """A server on a free port: its process and its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tabwise_server", "lsp", flag, "127.0.0.1:0"),
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stderr is not None
    while True:
        line = (await process.stderr.readline()).decode()
        assert line, "it ended without listening"
        if line.startswith("listening on "):
            return process, line.split()[-1]


def messages() -> list[bytes]:
    return [json.dumps({"jsonrpc": "2.0", **m}).encode() for m in CONVERSATION]


async def test_over_tcp_one_client_is_served_and_its_leaving_ends_the_server(
    environment: dict[str, str], backend: ScriptedBackend
) -> None:
    process, address = await listen(environment, "--tcp")
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"".join(map(frame, messages())))
    framer, answers = Framer(), {}
    while 2 not in answers:
        for body in framer.feed(await reader.read(65_536)):
            message = json.loads(body)
            answers[message.get("id")] = message
    assert answers[1]["result"]["serverInfo"]["name"] == "tabwise"
    # the request saw the text as it was when it was sent; then it had moved on
    assert [request.prefix for request in backend.requests] == ["x = "]
    assert answers[2]["result"] is None
    writer.write(b"".join(map(frame, END)))
    assert await process.wait() == 0
    writer.close()


async def test_over_websocket_a_message_is_a_text_frame(
    environment: dict[str, str], backend: ScriptedBackend
) -> None:
    process, address = await listen(environment, "--ws")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{address}/") as client,
    ):
        for message in messages()[:4]:
            await client.send_str(message.decode())
        answers = {}
        while 2 not in answers:
            answer = await client.receive_json()
            answers[answer.get("id")] = answer
        assert answers[2]["result"][0]["insertText"] == "suggested()"
        for body in END:
            await client.send_str(body.decode())
        assert await process.wait() == 0


async def test_a_web_page_of_another_origin_cannot_connect(
    environment: dict[str, str],
) -> None:
    process, address = await listen(environment, "--ws")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await session.ws_connect(f"http://{address}/", origin="https://evil.test")
    process.kill()
    await process.wait()


@pytest.mark.parametrize("text", ["", "localhost", "host:", ":1", "host:x", "h:70000"])
def test_a_wrong_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="HOST:PORT"):
        parse_address(text)


def test_addresses_are_read() -> None:
    assert parse_address("127.0.0.1:2087") == ("127.0.0.1", 2087)
    assert parse_address("[::1]:0") == ("::1", 0)


@pytest.mark.parametrize("flag", ["--tcp", "--ws"])
@pytest.mark.parametrize("host", ["127.0.0.1", "host.invalid"])
async def test_an_address_that_cannot_be_listened_on_is_one_line(
    environment: dict[str, str], flag: str, host: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"{host}:{taken.getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tabwise_server", "lsp", flag, address),
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert f"tabwise lsp: cannot listen on {address}: " in errors.decode()
    assert errors.count(b"\n") == 1

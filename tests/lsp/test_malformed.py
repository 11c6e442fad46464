"""What is not LSP: answered where it asks, and survived."""

import json
from typing import Any

import pytest

from support.language_server import URI, language_server
from tabwise_server.bench.client import ResponseError, inline_params
from tabwise_server.lsp.framing import frame

Env = dict[str, str]


MALFORMED: list[Any] = [
    b"{",
    b"",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b"[" * 100_000,
    {"jsonrpc": "1.0", "id": 1, "method": "shutdown"},
    {"jsonrpc": "2.0"},
    {"jsonrpc": "2.0", "id": 5},
    {"jsonrpc": "2.0", "id": 5, "result": 1},
    {"jsonrpc": "2.0", "id": 5, "error": {"code": 1}},
    {"jsonrpc": "2.0", "method": 7},
    {"jsonrpc": "2.0", "method": "no/such", "params": [1]},
    {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": {}},
    {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": None},
    {"jsonrpc": "2.0", "method": "textDocument/didOpen"},
    {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 12345}},
    {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {}},
    {
        "jsonrpc": "2.0",
        "method": "textDocument/didClose",
        "params": {"textDocument": {"uri": "file:///never/opened"}},
    },
]


async def test_malformed_messages_do_not_end_the_server(environment: Env) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        for message in MALFORMED:
            body = (
                message if isinstance(message, bytes) else json.dumps(message).encode()
            )
            client.send_raw(frame(body))
            shown = await client.inline_completion(URI, (0, 4))
            assert shown.text == "suggested()", message


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("no/such", {}, -32601),
        ("no/such", None, -32601),
        ("textDocument/inlineCompletion", {}, -32602),
        ("textDocument/inlineCompletion", None, -32602),
        ("textDocument/inlineCompletion", [1, 2], -32602),
        ("textDocument/inlineCompletion", inline_params(URI, (-1, 0)), -32602),
        ("textDocument/inlineCompletion", inline_params(URI, (0, -1)), -32602),
        ("textDocument/inlineCompletion", inline_params(URI, (2**40, 0)), -32602),
        ("textDocument/completion", {"textDocument": 3, "position": "x"}, -32602),
        ("initialize", {"capabilities": {}}, -32600),
        ("workspace/executeCommand", {"command": "rm"}, -32602),
    ],
)
async def test_every_bad_request_is_answered_with_its_error(
    environment: Env, method: str, params: Any, code: int
) -> None:
    async with language_server(environment) as client:
        with pytest.raises(ResponseError) as caught:
            await client.request(method, params)
        assert caught.value.error_code == code

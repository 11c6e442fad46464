"""The beginning and the end of a conversation with `tabwise lsp`."""

from typing import Any

import pytest

from support.language_server import URI, language_server
from tabwise_server.bench.client import ResponseError, inline_params

Env = dict[str, str]


async def test_initialize_advertises_what_is_served(environment: Env) -> None:
    async with language_server(environment) as client:
        offered = client.capabilities
        assert offered["inlineCompletionProvider"] == {}
        assert offered["completionProvider"]["triggerCharacters"] == [".", "("]
        assert offered["textDocumentSync"]["change"] == 2
        assert client.server_info["name"] == "tabwise"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["utf-8", "utf-16"], "utf-8"),
        (["utf-16", "utf-8"], "utf-16"),
        (["utf-32"], "utf-32"),
        (["utf-7"], "utf-16"),
    ],
)
async def test_the_clients_first_encoding_that_we_know_is_taken(
    environment: Env, offered: list[str], chosen: str
) -> None:
    async with language_server(environment, encodings=offered) as client:
        assert client.capabilities["positionEncoding"] == chosen


async def test_requests_before_initialize_and_after_shutdown_are_refused(
    environment: Env,
) -> None:
    async with language_server(environment, initialize=False) as client:
        with pytest.raises(ResponseError) as early:
            await client.request(
                "textDocument/inlineCompletion", inline_params(URI, (0, 0))
            )
        assert early.value.error_code == -32002
        await client.initialize()
        await client.request("shutdown", None)
        with pytest.raises(ResponseError) as late:
            await client.request(
                "textDocument/inlineCompletion", inline_params(URI, (0, 0))
            )
        assert late.value.error_code == -32600
        client.notify("exit", None)
        assert await client.process.wait() == 0


@pytest.mark.parametrize("context", [{"triggerKind": 0}, {"triggerKind": 7}, {}, None])
async def test_trigger_kinds_of_older_clients_are_understood(
    environment: Env, context: Any
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        params = {**inline_params(URI, (0, 4)), "context": context, "unknown": [1]}
        items = await client.request("textDocument/inlineCompletion", params)
        assert items[0]["insertText"] == "suggested()"


async def test_it_ends_when_the_editor_is_gone_without_a_word(environment: Env) -> None:
    async with language_server(environment) as client:
        assert client.process.stdin is not None
        client.process.stdin.close()
        assert await client.process.wait() == 1

"""`textDocument/inlineCompletion`: the newest wins, cancels reach the backend."""

import json

import pytest

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import ResponseError, inline_params
from tabwise_server.lsp.framing import frame

Env = dict[str, str]


async def test_a_newer_request_answers_the_older_with_null_and_stops_its_work(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.gate.clear()
    async with language_server(environment) as client:
        client.open(URI, "x = \ny = \n")
        _, older = client.ask(
            "textDocument/inlineCompletion", inline_params(URI, (0, 4))
        )
        await backend.wait_for(lambda: len(backend.requests) == 1)
        _, newer = client.ask(
            "textDocument/inlineCompletion", inline_params(URI, (1, 4))
        )
        await backend.wait_for(lambda: backend.cancelled == 1)
        assert await older is None
        backend.gate.set()
        assert (await newer)[0]["insertText"] == "suggested()"


async def test_a_cancelled_request_is_answered_and_closes_the_backends(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.gate.clear()
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        id, answer = client.ask(
            "textDocument/inlineCompletion", inline_params(URI, (0, 4))
        )
        await backend.wait_for(lambda: len(backend.requests) == 1)
        client.notify("$/cancelRequest", {"id": id})
        with pytest.raises(ResponseError) as caught:
            await answer
        assert caught.value.error_code == -32800
        await backend.wait_for(lambda: backend.cancelled == 1)


async def test_typing_on_meanwhile_is_answered_with_null(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.gate.clear()
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        _, answer = client.ask(
            "textDocument/inlineCompletion", inline_params(URI, (0, 4))
        )
        await backend.wait_for(lambda: len(backend.requests) == 1)
        client.change(URI, 2, "s", (0, 4))
        # a request that is answered at once proves that the change has arrived
        assert (
            await client.request(
                "textDocument/inlineCompletion",
                inline_params("file:///other.py", (0, 0)),
            )
            is None
        )
        backend.gate.set()
        assert await answer is None
        shown = await client.inline_completion(URI, (0, 5))
        assert shown.text == "uggested()"
        assert len(backend.requests) == 1


async def test_where_nothing_is_to_be_shown_the_answer_is_an_empty_list(
    environment: Env, backend: ScriptedBackend
) -> None:
    """Neovim goes on showing an older suggestion where the answer is null."""
    backend.answer = lambda request: ""
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        params = inline_params(URI, (0, 4))
        assert await client.request("textDocument/inlineCompletion", params) == []


async def test_a_popup_at_the_same_place_leaves_that_answer_an_empty_list(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.answer = lambda request: ""
    backend.gate.clear()
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        params = inline_params(URI, (0, 4))
        _, ghost = client.ask("textDocument/inlineCompletion", params)
        await backend.wait_for(lambda: len(backend.requests) == 1)
        place = {"line": 0, "character": 4}
        asked = {"textDocument": {"uri": URI}, "position": place}
        await client.request("textDocument/completion", asked)  # its patience ends
        backend.gate.set()
        assert await ghost == []


async def test_requests_already_queued_see_the_text_as_it_was(
    environment: Env, backend: ScriptedBackend
) -> None:
    """A request and the change after it arrive in one piece of the stream."""
    change = {
        "textDocument": {"uri": URI, "version": 2},
        "contentChanges": [{"text": "another = "}],
    }
    request = {
        "jsonrpc": "2.0",
        "id": 900,
        "method": "textDocument/inlineCompletion",
        "params": inline_params(URI, (0, 4)),
    }
    notification = {
        "jsonrpc": "2.0",
        "method": "textDocument/didChange",
        "params": change,
    }
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        both = [frame(json.dumps(m).encode()) for m in (request, notification)]
        client.send_raw(b"".join(both))
        await backend.wait_for(lambda: len(backend.requests) == 1)
        assert backend.requests[0].prefix == "x = "

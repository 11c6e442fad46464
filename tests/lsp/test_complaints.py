"""What users complain about in other servers, a test each, named after the complaint.

Those about the text itself are in tests/suggest/test_shape.py.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from support.language_server import URI, isolated, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import LspClient, ResponseError, inline_params
from tabwise_server.bench.machine import cpu_seconds, resident_mb

Env = dict[str, str]
INLINE = "textDocument/inlineCompletion"


async def barrier(client: LspClient) -> None:
    """Return once the server has taken in all that was sent."""
    await client.request(INLINE, inline_params("file:///nothing.py", (0, 0)))


async def test_a_gigabyte_per_editor(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        for name in "abcdefgh":
            uri = f"file:///project/{name}.py"
            client.open(uri, "value = compute(1)\n" * 1_000)
            await client.inline_completion(uri, (1_000, 0))
        memory_mb = resident_mb(client.process.pid)
        assert memory_mb is None or memory_mb < 65


async def test_the_server_computes_on_after_a_cancel(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.gate.clear()
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        id, answer = client.ask(INLINE, inline_params(URI, (0, 4)))
        await backend.wait_for(lambda: len(backend.requests) == 1)
        client.notify("$/cancelRequest", {"id": id})
        await backend.wait_for(lambda: backend.cancelled == 1)
        with pytest.raises(ResponseError):
            await answer


async def test_one_clients_cancel_kills_anothers_request(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.gate.clear()
    async with (
        language_server(environment) as one,
        language_server(environment) as other,
    ):
        for client in (one, other):
            client.open(URI, "x = ")
        id, lost = one.ask(INLINE, inline_params(URI, (0, 4)))
        _, kept = other.ask(INLINE, inline_params(URI, (0, 4)))
        await backend.wait_for(lambda: len(backend.requests) == 2)
        one.notify("$/cancelRequest", {"id": id})
        await backend.wait_for(lambda: backend.cancelled == 1)
        backend.gate.set()
        assert (await kept)[0]["insertText"] == "suggested()"
        with pytest.raises(ResponseError):
            await lost


async def test_cancelled_requests_are_still_processed(
    environment: Env, backend: ScriptedBackend
) -> None:
    """A request and its cancel that arrive together never reach the backend."""
    async with language_server(environment) as client:
        client.open(URI, "x = \ny = \n")
        id, answer = client.ask(INLINE, inline_params(URI, (0, 4)))
        client.notify("$/cancelRequest", {"id": id})
        with pytest.raises(ResponseError):
            await answer
        assert (await client.inline_completion(URI, (1, 4))).text == "suggested()"
        prefixes = [request.prefix for request in backend.requests]
        assert len([p for p in prefixes if p == "x = "]) <= backend.cancelled


async def test_idle_or_pegged_cpu(environment: Env, backend: ScriptedBackend) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = \n" * 5_000)
        await client.inline_completion(URI, (0, 4))
        before = cpu_seconds(client.process.pid)
        await asyncio.sleep(2)  # nothing is sent: idle is what is measured
        after = cpu_seconds(client.process.pid)
        if before is not None and after is not None:
            assert after - before < 0.1


async def test_error_popups_when_the_backend_is_down(tmp_path: Path) -> None:
    environment = isolated(tmp_path, TABWISE_BACKEND_URL="http://127.0.0.1:9")
    async with language_server(environment) as client:
        client.open(URI, "x = \n" * 20)
        for line in range(20):
            assert (await client.inline_completion(URI, (line, 4))).text is None
        assert {method for method, _ in client.notifications} == {"$/tabwise/status"}
        assert len(client.notifications) == 1


async def test_the_model_delays_the_ordinary_popup(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.gate.clear()
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        position = {"line": 0, "character": 4}
        params = {"textDocument": {"uri": URI}, "position": position}
        began = time.perf_counter()
        result = await client.request("textDocument/completion", params)
        assert result["items"] == []
        assert 0.05 < time.perf_counter() - began < 5  # 100 ms, on a busy machine


@pytest.mark.parametrize("character", [*range(12), 99])
async def test_unicode_offsets_panic(
    environment: Env, backend: ScriptedBackend, character: int
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "'👩‍👩‍👧'é = \n")
        client.change(URI, 2, "🎉", (0, character), (0, character + 1))
        shown = await client.inline_completion(URI, (0, character))
        assert shown.text in (None, "suggested()")
        for request in backend.requests:
            (request.prefix + request.suffix).encode("utf-8")


async def test_tabs_become_spaces_and_lines_are_indented_twice(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.answer = lambda request: "if a:\n        b()"
    async with language_server(
        environment, options={"completionDeadlineMs": 5_000}
    ) as client:
        client.open(URI, "def f(a):\n\t\n\nclass A:\n\tx = 1\n")
        shown = await client.inline_completion(URI, (1, 1))
        assert shown.text == "if a:\n\t\tb()"
        position = {"line": 1, "character": 1}
        params = {"textDocument": {"uri": URI}, "position": position}
        result = await client.request("textDocument/completion", params)
        assert {item["insertTextMode"] for item in result["items"]} == {1}


async def test_the_same_suggestion_again_after_accepting(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = \n")
        shown = await client.inline_completion(URI, (0, 4))
        assert shown.text is not None
        client.change(URI, 2, shown.text, (0, 4))
        again = await client.inline_completion(URI, (0, 4 + len(shown.text)))
        assert again.text is None
        client.change(URI, 3, "\n", (0, 4 + len(shown.text)))
        client.change(URI, 4, "x = ", (1, 0))
        assert (await client.inline_completion(URI, (1, 4))).text is None


async def test_a_stale_cache(environment: Env, backend: ScriptedBackend) -> None:
    """The same line with other code above, or below, is asked anew."""
    async with language_server(environment) as client:
        client.open(URI, "import a\n\nx = \n\ny = 1\n")
        await client.inline_completion(URI, (2, 4))
        client.change(URI, 2, "b", (0, 7), (0, 8))
        await client.inline_completion(URI, (2, 4))
        client.change(URI, 3, "2", (4, 4), (4, 5))
        await client.inline_completion(URI, (2, 4))
        assert len({r.prefix + r.suffix for r in backend.requests}) == 3


async def test_env_files_are_completed_or_sent(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open("file:///project/.env", "SECRET=")
        shown = await client.inline_completion("file:///project/.env", (0, 7))
        assert shown.text is None
        assert backend.requests == []


async def test_a_proxy_is_applied_to_localhost(
    environment: Env, backend: ScriptedBackend
) -> None:
    nowhere = "http://127.0.0.1:9"
    proxies = {name: nowhere for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY")}
    async with language_server({**environment, **proxies}) as client:
        client.open(URI, "x = ")
        assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"


async def test_too_many_low_value_triggers(
    environment: Env, backend: ScriptedBackend
) -> None:
    """A word typed inside another, or through a suggestion, asks nobody."""
    async with language_server(environment) as client:
        client.open(URI, "prnt(x)\ny = \n")
        await client.inline_completion(URI, (0, 2))
        await client.inline_completion(URI, (1, 4))
        for number, char in enumerate("sugges"):
            client.change(URI, number + 2, char, (1, 4 + number))
            await client.inline_completion(URI, (1, 5 + number))
        assert len(backend.requests) == 1


@pytest.mark.parametrize("ids", [(1, "1"), ("a", "A"), (-1, 0)])
async def test_request_ids_collide(
    environment: Env, backend: ScriptedBackend, ids: tuple[Any, Any]
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = \n")
        client.open("file:///other.py", "y = \n")
        answers: dict[Any, asyncio.Future[Any]] = {}
        for id, uri in zip(ids, (URI, "file:///nothing.py"), strict=True):
            answers[id] = asyncio.get_running_loop().create_future()
            client.answers[id] = answers[id]
            message = {"jsonrpc": "2.0", "id": id, "method": INLINE}
            client.send({**message, "params": inline_params(uri, (0, 4))})
        assert (await answers[ids[0]])[0]["insertText"] == "suggested()"
        assert await answers[ids[1]] is None


async def test_request_was_cancelled_spam(
    environment: Env, backend: ScriptedBackend
) -> None:
    """A superseded request is answered with null: an error would be shown or logged."""
    backend.gate.clear()
    async with language_server(environment) as client:
        client.open(URI, "x = \n" * 30)
        asked = [
            client.ask(INLINE, inline_params(URI, (line, 4)))[1] for line in range(30)
        ]
        assert await asyncio.gather(*asked[:-1]) == [None] * 29
        backend.gate.set()
        assert (await asked[-1])[0]["insertText"] == "suggested()"
        assert {method for method, _ in client.notifications} == {"$/tabwise/status"}


async def test_it_hangs_after_fifteen_simultaneous_requests(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.gate.clear()
    async with language_server(environment) as client:
        uris = [f"file:///project/{number}.py" for number in range(40)]
        for uri in uris:
            client.open(uri, "x = ")
        asked = [client.ask(INLINE, inline_params(uri, (0, 4)))[1] for uri in uris]
        await backend.wait_for(lambda: len(backend.requests) == 40)
        backend.gate.set()
        answers = await asyncio.gather(*asked)
        assert [items[0]["insertText"] for items in answers] == ["suggested()"] * 40


async def test_a_hidden_timeout_cancels_model_loading(
    environment: Env, backend: ScriptedBackend
) -> None:
    """A backend that is not ready yet is asked again, for as long as it takes."""
    backend.says = {"status": "loading", "model_loaded": False}
    backend.status = 503
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        for column in (3, 4, 3):
            assert (await client.inline_completion(URI, (0, column))).text is None
        backend.says = {"status": "healthy", "model_loaded": True}
        backend.status = 200
        async with asyncio.timeout(30):
            while (await client.inline_completion(URI, (0, 4))).text is None:
                await barrier(client)

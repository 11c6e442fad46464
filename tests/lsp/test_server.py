"""`tabwise lsp` as a real process, before a scripted backend."""

import asyncio
import json
from typing import Any

import pytest

from support.language_server import URI, language_server, until
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import LspClient, ResponseError, inline_params
from tabwise_server.lsp.framing import Framer, frame

EMOJI_LINE = "s = '😀é' + "
# units before the cursor at the end of EMOJI_LINE
END = {"utf-8": 15, "utf-16": 12, "utf-32": 11}

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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
async def test_emoji_tabs_and_line_endings_are_cut_at_the_right_character(
    environment: Env, backend: ScriptedBackend, encoding: str, ending: str
) -> None:
    text = ending.join(["def f():", "\t" + EMOJI_LINE, "\treturn s", ""])
    async with language_server(environment, encodings=[encoding]) as client:
        client.open(URI, text, language="text")
        column = 1 + END[encoding]
        shown = await client.inline_completion(URI, (1, column))
        assert shown.text == "suggested()"
        assert backend.requests[-1].prefix == "def f():\n\t" + EMOJI_LINE
        assert backend.requests[-1].suffix == "\n\treturn s\n"
        # edits are cut there too: an emoji typed, another one deleted
        client.change(URI, 2, "🎉", (1, column))
        two = {"utf-8": 4, "utf-16": 2, "utf-32": 1}[encoding]
        before = 1 + len("s = '")
        client.change(URI, 3, "", (1, before), (1, before + two))
        await client.inline_completion(URI, (1, column))
        assert backend.requests[-1].prefix == "def f():\n\ts = 'é' + 🎉"
        items = await client.request(
            "textDocument/inlineCompletion", inline_params(URI, (1, column))
        )
        assert items[0]["range"]["start"] == {"line": 1, "character": column}
        assert items[0]["range"]["end"] == {"line": 1, "character": column}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
async def test_twenty_thousand_lines_are_edited_and_completed_right(
    environment: Env, backend: ScriptedBackend, encoding: str
) -> None:
    lines = [f"x{i} = '😀' + str({i})" for i in range(20_000)]
    async with language_server(environment, encodings=[encoding]) as client:
        client.open(URI, "\r\n".join(lines))
        where = (15_000, len("x15000 = '") + len("😀'".encode()) + len(" + "))
        shift = {"utf-8": 0, "utf-16": 2, "utf-32": 3}[encoding]
        at = (where[0], where[1] - shift)
        for version, char in enumerate("abc", start=2):
            client.change(URI, version, char, at)
            at = (at[0], at[1] + 1)
        shown = await client.inline_completion(URI, at)
        request = backend.requests[-1]
        assert request.prefix.endswith(lines[14_999] + "\nx15000 = '😀' + abc")
        assert request.suffix.startswith("str(15000)\n" + lines[15_001])
        # nothing that would grow together with `str` is shown
        assert shown.text == "suggested()" or shown.text is None


async def test_a_suggestion_takes_the_documents_line_endings(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.answer = lambda request: "a = 1\n    return a"
    async with language_server(environment) as client:
        client.open(URI, "def f():\r\n    \r\n")
        shown = await client.inline_completion(URI, (1, 4))
        assert shown.text == "a = 1\r\n    return a"


async def test_the_popup_gets_the_same_suggestion_as_one_replacing_item(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.answer = lambda request: "ggested(x)"
    async with language_server(
        environment, options={"completionDeadlineMs": 5_000}
    ) as client:
        client.open(URI, "y = 'é' + su\n")
        position = {"line": 0, "character": 12}
        result = await client.request(
            "textDocument/completion",
            {"textDocument": {"uri": URI}, "position": position},
        )
        assert result["isIncomplete"] is True
        [item] = result["items"]
        assert item["textEdit"]["newText"] == item["filterText"] == "suggested(x)"
        assert item["textEdit"]["range"]["start"]["character"] == 10
        assert item["textEdit"]["range"]["end"]["character"] == 12
        assert item["sortText"] > "zzz"


async def test_the_popup_never_waits_beyond_its_deadline(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.gate.clear()
    async with language_server(
        environment, options={"completionDeadlineMs": 50}
    ) as client:
        client.open(URI, "y = ")
        result = await client.request(
            "textDocument/completion",
            {"textDocument": {"uri": URI}, "position": {"line": 0, "character": 4}},
        )
        assert result == {"isIncomplete": True, "items": []}
        await backend.wait_for(lambda: backend.cancelled == 1)


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


@pytest.mark.parametrize(
    ("uri", "at"),
    [
        ("file:///unknown.py", (0, 0)),
        (URI, (99, 0)),
    ],
)
async def test_unknown_documents_and_outside_positions_get_nothing(
    environment: Env, backend: ScriptedBackend, uri: str, at: tuple[int, int]
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        assert (await client.inline_completion(uri, at)).text is None
        assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"
        assert len(backend.requests) == 1


async def test_secret_files_are_never_sent(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        for uri in ("file:///project/.env", "file:///home/me/.ssh/config"):
            client.open(uri, "KEY = ")
            assert (await client.inline_completion(uri, (0, 6))).text is None
        assert backend.requests == []


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


async def test_a_failing_backend_is_a_status_and_never_a_message(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        backend.status = 500
        for column in range(4):
            assert (await client.inline_completion(URI, (0, column))).text is None
        backend.status = 200
        assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"
        methods = {method for method, _ in client.notifications}
        assert methods == {"$/tabwise/status"}
        states = [params["state"] for _, params in client.notifications]
        assert states == ["ready", "offline", "ready"]


async def test_a_bad_option_is_named_in_the_log_and_its_default_used(
    environment: Env, backend: ScriptedBackend, tmp_path: Any
) -> None:
    log = tmp_path / "lsp.log"
    environment = {**environment, "TABWISE_LSP_LOG_FILE": str(log)}
    options = {"maxNewTokens": 9, "deadlineMs": "soon", "unheard": 1}
    async with language_server(environment, options=options) as client:
        client.open(URI, "x = ")
        await client.inline_completion(URI, (0, 4))
        request = backend.requests[0]
        assert (request.max_new_tokens, request.deadline_ms) == (9, 2_000)
    text = log.read_text()
    assert text.count("deadline_ms must be a number, got 'soon'") == 1
    assert text.count("unknown option 'unheard'") == 1


async def test_the_log_holds_no_source_text_even_at_debug(
    environment: Env, backend: ScriptedBackend, tmp_path: Any
) -> None:
    log = tmp_path / "lsp.log"
    more = {"TABWISE_LSP_LOG_FILE": str(log), "TABWISE_LSP_LOG_LEVEL": "DEBUG"}
    backend.answer = lambda request: "secret_answer()"
    async with language_server({**environment, **more}) as client:
        client.open(URI, "secret_question = ")
        assert (await client.inline_completion(URI, (0, 18))).text == "secret_answer()"
        bad = {"textDocument": {"uri": URI}, "position": "secret_position"}
        with pytest.raises(ResponseError):
            await client.request("textDocument/inlineCompletion", bad)
    assert "secret_" not in log.read_text()


async def test_switched_off_it_suggests_nothing(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment, options={"enabled": False}) as client:
        client.open(URI, "x = ")
        assert (await client.inline_completion(URI, (0, 4))).text is None
        assert backend.requests == []


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


async def test_it_ends_when_the_editor_is_gone_without_a_word(environment: Env) -> None:
    async with language_server(environment) as client:
        assert client.process.stdin is not None
        client.process.stdin.close()
        assert await client.process.wait() == 1


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

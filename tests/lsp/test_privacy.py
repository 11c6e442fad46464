"""What is never read, sent or logged."""

from typing import Any

import pytest

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import ResponseError

Env = dict[str, str]


async def test_secret_files_are_never_sent(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        for uri in ("file:///project/.env", "file:///home/me/.ssh/config"):
            client.open(uri, "KEY = ")
            assert (await client.inline_completion(uri, (0, 6))).text is None
        assert backend.requests == []


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

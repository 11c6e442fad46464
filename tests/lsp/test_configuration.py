"""Options from the editor and from files, and what is wrong with them."""

from typing import Any

import pytest

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend

Env = dict[str, str]


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
        assert request.max_new_tokens == 9
        assert request.deadline_ms == pytest.approx(2_000, rel=0.1)
    text = log.read_text()
    assert text.count("deadline_ms must be a number, got 'soon'") == 1
    assert text.count("unknown option 'unheard'") == 1


async def test_switched_off_it_suggests_nothing(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment, options={"enabled": False}) as client:
        client.open(URI, "x = ")
        assert (await client.inline_completion(URI, (0, 4))).text is None
        assert backend.requests == []

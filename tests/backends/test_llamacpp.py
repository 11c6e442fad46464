"""llama.cpp's own server, on a small model of our own."""

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import numpy as np
import pytest

from support.replies import events, reply_server
from tabwise_server.backends.http import Endpoint
from tabwise_server.backends.llamacpp import LlamaCppBackend, Slots, infill_body
from tabwise_server.backends.openai import OpenAIBackend
from tabwise_server.backends.templates import TEMPLATES
from tabwise_server.bench.rival import Rival, llama_cpp_server
from tabwise_server.wire import CompletionRequest, ContextChunk

CODE = "def add(a, b):\n    return a + b\n\n\n" * 5 + "def main():\n    x = "


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that ships, for llama.cpp."""
    pytest.importorskip("xllamacpp")
    from tabwise_model.checkpoint import load_checkpoint, resolve_checkpoint
    from tabwise_model.export.to_gguf import write_gguf

    file = tmp_path_factory.mktemp("gguf") / "default.gguf"
    write_gguf(file, load_checkpoint(resolve_checkpoint("default")), "q8_0")
    return file


@pytest.fixture
async def server(gguf: Path) -> AsyncIterator[Rival]:
    async with llama_cpp_server(gguf, slots=2, threads=1) as running:
        yield running


async def test_a_hole_is_filled_and_typing_on_finds_the_prompt_cached(
    server: Rival,
) -> None:
    backend = LlamaCppBackend(Endpoint(server.url))
    assert (await backend.health()).ready
    wanted = CompletionRequest(prefix=CODE, suffix="\n\nmain()\n", session="doc")
    first = await backend.complete(wanted)
    assert "\n" not in first.text.lstrip()
    assert first.tokens > 0
    assert first.min_logprob <= first.mean_logprob < 0
    typed = attrs.evolve(wanted, prefix=f"{CODE}add(")
    again = await backend.complete(typed)
    assert again.prompt_tokens > 20
    assert again.cached_tokens > again.prompt_tokens * 0.8
    await backend.close()


async def test_where_the_line_is_not_likely_enough_its_beginning_comes(
    server: Rival,
) -> None:
    backend = LlamaCppBackend(Endpoint(server.url))
    wanted = CompletionRequest(prefix=CODE, suffix="\n\nmain()\n")
    whole = await backend.complete(wanted)
    asked = attrs.evolve(wanted, min_confidence=whole.confidence + 0.01)
    assert (await backend.complete(asked)).finish == "unsure"
    part = await backend.complete(attrs.evolve(asked, min_part_confidence=0.01))
    assert part.finish == "part"
    assert part.text
    assert whole.text.startswith(part.text)
    assert part.confidence >= whole.confidence
    await backend.close()


async def test_the_same_server_is_spoken_to_as_an_openai_one(server: Rival) -> None:
    backend = OpenAIBackend(Endpoint(server.url), "tabwise", TEMPLATES["tabwise"])
    assert (await backend.health()).ready
    wanted = CompletionRequest(prefix=CODE, suffix="\n", max_new_tokens=8, stop="none")
    response = await backend.complete(wanted)
    assert (response.finish, response.tokens) == ("length", 8)
    assert np.isfinite(response.mean_logprob)
    assert response.mean_logprob < 0
    await backend.close()


def test_the_cursors_line_is_the_prompt() -> None:
    request = CompletionRequest(
        prefix="a = 1\n    b",
        suffix="\nc",
        context=[ContextChunk(path="x.py", text="X")],
        stop="block",
        deadline_ms=500.0,
    )
    body = infill_body(request)
    assert (body["input_prefix"], body["prompt"]) == ("a = 1\n", "    b")
    assert body["input_suffix"] == "\nc"
    assert body["input_extra"] == [{"filename": "x.py", "text": "X"}]
    assert (body["n_indent"], body["t_max_predict_ms"]) == (4, 500)


async def test_the_servers_stop_at_its_limit_is_told() -> None:
    reply = events(
        {"content": "a", "stop": False},
        {"content": "", "stop": True, "stop_type": "limit"},
        done=False,
    )
    async with reply_server(reply) as running:
        backend = LlamaCppBackend(Endpoint(running.url))
        response = await backend.complete(CompletionRequest(prefix="x"))
        assert (response.text, response.finish) == ("a", "length")
        await backend.close()


def test_each_document_keeps_its_slot_and_the_idlest_gives_way() -> None:
    slots = Slots(2)
    a, b = slots.of("a"), slots.of("b")
    assert {a, b} == {0, 1}
    assert slots.of("a") == a
    assert slots.of("c") == b  # b was longest unused
    assert slots.of("a") == a


def test_slots_that_nobody_counted_are_the_servers_own_choice() -> None:
    assert Slots(0).of("a") == Slots(1).of("a") == Slots(4).of(None) == -1

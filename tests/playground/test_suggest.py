"""What the playground asks: a suggestion as an editor shows it, and its tokens."""

from typing import Any

import pytest

from support.backend import HeldRunner, RunningBackend, running_backend

PATH = "/v1/tabwise/suggest"


async def asked(backend: RunningBackend, **body: Any) -> dict[str, Any]:
    status, answer = await backend.post(PATH, body)
    assert status == 200, answer
    return answer


async def test_the_prompt_is_told_piece_by_piece_in_the_models_own_order() -> None:
    async with running_backend(HeldRunner()) as backend:
        answer = await asked(backend, prefix="x = 1\ny = va", suffix="\nz = 3\n")
    names = [one["text"] for one in answer["prompt"] if one["sentinel"]]
    assert names == ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    texts = [one["text"] for one in answer["prompt"] if not one["sentinel"]]
    assert answer["healed"].strip() == "va"
    assert "".join(texts) + answer["healed"] == "\nz = 3\nx = 1\ny = va"
    assert answer["raw"] in "".join(one["text"] for one in answer["pieces"])


async def test_what_the_cache_held_is_marked() -> None:
    async with running_backend(HeldRunner()) as backend:
        first = await asked(backend, prefix="x = 1\ny = ", session="one")
        second = await asked(backend, prefix="x = 1\ny = v", session="one")
    assert not any(one["cached"] for one in first["prompt"])
    cached = [one["cached"] for one in second["prompt"]]
    assert cached[0]
    assert cached == sorted(cached, reverse=True)


async def test_a_level_holds_back_what_it_is_not_sure_of() -> None:
    async with running_backend(HeldRunner()) as backend:
        answer = await asked(backend, prefix="x = ", level="quiet")
    assert answer["confidence"] < answer["threshold"]
    assert answer["text"] == ""
    assert answer["raw"] != ""


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"suffix": "x"}, "prefix"),
        ({"prefix": "x", "level": "wild"}, "level"),
        ({"prefix": "x", "text": "y"}, "text"),
    ],
)
async def test_what_is_wrong_is_named(body: dict[str, Any], field: str) -> None:
    async with running_backend(HeldRunner()) as backend:
        status, answer = await backend.post(PATH, body)
    assert (status, answer["error"]["field"]) == (422, field)


async def test_the_key_is_asked_for_by_all_but_the_page() -> None:
    async with running_backend(HeldRunner(), api_key="a-key-of-some-length") as backend:
        for path in ("/", "/playground.js", "/playground.css"):
            assert (await backend.get(path))[0] == 200
        assert (await backend.post(PATH, {"prefix": "x"}))[0] == 401
        assert (await backend.get("/metrics"))[0] == 401


async def test_the_process_memory_is_among_the_figures() -> None:
    async with running_backend(HeldRunner()) as backend:
        assert await backend.metric("process_resident_memory_bytes") > 1e6

"""OpenAI's and llama.cpp's APIs, over a real socket, and by OpenAI's own client."""

import doctest
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from support.backend import HeldRunner, RunningBackend, running_backend, until
from tabwise_server.serving.apis import text


@pytest.fixture
async def backend() -> AsyncIterator[RunningBackend]:
    async with running_backend(HeldRunner()) as running:
        yield running


def client_of(backend: RunningBackend) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{backend.url}/v1", api_key="any", max_retries=0
    )


async def events_of(backend: RunningBackend, path: str, body: Any) -> list[Any]:
    async with backend.http.post(backend.url + path, json=body) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        text = await response.text()
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_openais_own_client_completes_streams_and_lists(
    backend: RunningBackend,
) -> None:
    async with client_of(backend) as client:
        found = await client.models.list()
        model = found.data[0].id
        asked: dict[str, Any] = {"model": model, "prompt": "def f(", "suffix": "):\n"}
        asked |= {"max_tokens": 9, "temperature": 0}
        whole = await client.completions.create(**asked, logprobs=1)
        choice = whole.choices[0]
        assert choice.finish_reason == "length"
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 9
        assert choice.logprobs is not None
        assert len(choice.logprobs.token_logprobs or []) == 9
        stream = await client.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    texts = [choice.text for chunk in chunks for choice in chunk.choices]
    assert "".join(texts) == choice.text
    assert len([text for text in texts if text]) > 3
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 9


async def test_a_prompt_with_our_sentinels_is_a_hole(backend: RunningBackend) -> None:
    suffixed = {"prompt": "def f(", "suffix": "):", "max_tokens": 8, "temperature": 0}
    _, expected = await backend.post("/v1/completions", suffixed)
    for prompt in (
        "<|fim_prefix|>def f(<|fim_suffix|>):<|fim_middle|>",
        "<|fim_prefix|><|fim_suffix|>):<|fim_middle|>def f(",
        "<|fim_prefix|>def <|fim_suffix|>):<|fim_middle|>f(",
        "<fim_prefix>def f(<fim_suffix>):<fim_middle>",
    ):
        body = {"prompt": prompt, "max_tokens": 8}  # greedy without being told
        _, found = await backend.post("/v1/completions", body)
        assert found["choices"] == expected["choices"]
        _, found = await backend.post("/completion", {"prompt": prompt, "n_predict": 8})
        assert found["content"] == expected["choices"][0]["text"]


@pytest.mark.timeout(20)
async def test_sentinels_without_an_end_take_no_time(backend: RunningBackend) -> None:
    for mark in ("<|fim_prefix|>", "<|fim_prefix|>a<|fim_suffix|>"):
        body = {"prompt": mark * 30_000, "max_tokens": 1}
        assert (await backend.post("/v1/completions", body))[0] == 200


async def test_stop_texts_end_the_text_before_them(backend: RunningBackend) -> None:
    body = {"prompt": "x = ", "max_tokens": 12, "temperature": 0}
    _, whole = await backend.post("/v1/completions", body)
    text = whole["choices"][0]["text"]
    stop = text[4:7]
    _, cut = await backend.post("/v1/completions", {**body, "stop": [stop, "never"]})
    assert cut["choices"][0]["text"] == text[: text.index(stop)]
    assert cut["choices"][0]["finish_reason"] == "stop"
    streamed = await events_of(
        backend, "/v1/completions", {**body, "stop": stop, "stream": True}
    )
    parts = [event["choices"][0]["text"] for event in streamed[:-1]]
    assert "".join(parts) == text[: text.index(stop)]
    assert streamed[-1] == "[DONE]"


async def test_choices_differ_by_their_seeds_and_repeat(
    backend: RunningBackend,
) -> None:
    body = {"prompt": "x = ", "n": 3, "seed": 5, "temperature": 1.5, "max_tokens": 8}
    _, first = await backend.post("/v1/completions", body)
    _, again = await backend.post("/v1/completions", body)
    texts = [choice["text"] for choice in first["choices"]]
    assert len(set(texts)) == 3
    assert texts == [choice["text"] for choice in again["choices"]]


async def test_several_answers_are_streamed_side_by_side_with_their_log_probabilities(
    backend: RunningBackend,
) -> None:
    body: dict[str, Any] = {"model": "any", "prompt": "x = ", "n": 3, "seed": 5}
    body |= {"temperature": 1.5, "max_tokens": 8, "logprobs": 1}
    async with client_of(backend) as client:
        whole = await client.completions.create(**body)
        chunks = [
            chunk
            async for chunk in await client.completions.create(
                **body, stream=True, stream_options={"include_usage": True}
            )
        ]
    texts = [""] * 3
    logprobs: list[list[float]] = [[] for _ in range(3)]
    offsets: list[list[int]] = [[] for _ in range(3)]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            if choice.logprobs is not None:
                logprobs[choice.index] += choice.logprobs.token_logprobs or []
                offsets[choice.index] += choice.logprobs.text_offset or []
    assert offsets == [c.logprobs and c.logprobs.text_offset for c in whole.choices]
    assert texts == [choice.text for choice in whole.choices]
    assert logprobs == [c.logprobs and c.logprobs.token_logprobs for c in whole.choices]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 24


def test_where_tokens_begin_is_counted_in_whole_characters() -> None:
    assert doctest.testmod(text).failed == 0


async def test_where_tokens_begin_leaves_out_what_is_written_again(
    backend: RunningBackend,
) -> None:
    """Behind `de` the token `def` writes two letters again."""
    begins = set()
    for number in range(20):
        body = {"prompt": f"x{number} = de", "max_tokens": 2, "temperature": 0}
        _, answer = await backend.post("/v1/completions", body | {"logprobs": 1})
        found = answer["choices"][0]["logprobs"]
        if found["tokens"][0] == "def":
            begins.add(tuple(found["text_offset"]))
    assert begins == {(0, 1)}


async def test_a_failure_among_several_answers_is_told_as_it_is(
    backend: RunningBackend,
) -> None:
    runner = backend.keeper.model.engine.runner
    assert isinstance(runner, HeldRunner)
    runner.fail_next = RuntimeError("no memory")
    status, answer = await backend.post("/v1/completions", {"prompt": "x", "n": 2})
    assert (status, answer["error"]["code"]) == (500, "engine_failed")
    assert backend.service.places.taken == 0


async def test_llama_cpps_infill_answers_plain_and_streamed(
    backend: RunningBackend,
) -> None:
    body = {
        "input_prefix": "def f(a):\n",
        "prompt": "    return ",
        "input_suffix": "\n",
        "input_extra": [{"filename": "b.py", "text": "b = 1\n"}],
        "n_predict": 8,
        "samplers": ["top_k", "infill"],
        "t_max_predict_ms": 500,
    }
    status, whole = await backend.post("/infill", body)
    assert (status, whole["stop"], whole["tokens_predicted"]) == (200, True, 8)
    assert whole["timings"]["predicted_n"] == 8
    events = await events_of(backend, "/infill", {**body, "stream": True})
    assert "".join(event["content"] for event in events) == whole["content"]
    assert [event["stop"] for event in events][-2:] == [False, True]
    _, warm = await backend.post("/infill", {**body, "n_predict": 0})
    assert (warm["content"], warm["tokens_predicted"]) == ("", 0)
    _, plain = await backend.post("/completion", {"prompt": "x = ", "n_predict": 4})
    assert plain["tokens_predicted"] == 4


async def test_llama_vim_finds_in_an_infill_what_it_looks_for(
    backend: RunningBackend,
) -> None:
    """It wants JSON without blanks, and names fields by their path."""
    names = ["content", "timings/predicted_n", "nothing"]
    body = {"input_prefix": "x = ", "n_predict": 4, "response_fields": names}
    async with backend.http.post(backend.url + "/infill", json=body) as response:
        raw = await response.text()
    assert raw.startswith('{"content":"')
    assert set(json.loads(raw)) == {"content", "timings/predicted_n"}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/completions", {"prompt": 5}, "prompt"),
        ("/v1/completions", {"prompt": ""}, "prompt"),
        ("/v1/completions", {"prompt": "a", "n": 99}, "n"),
        ("/v1/completions", {"prompt": "a", "echo": True}, "echo"),
        ("/v1/completions", {"prompt": "a", "temperature": "hot"}, "temperature"),
        ("/v1/completions", {"prompt": "a", "stop": ["x"] * 33}, "stop"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 1.5}, "max_tokens"),
        ("/infill", {"input_prefix": ["a"]}, "input_prefix"),
        ("/infill", {"input_extra": ["a"]}, "input_extra"),
        ("/infill", {"n_indent": -1}, "n_indent"),
        ("/infill", {"response_fields": "content"}, "response_fields"),
        ("/completion", {"prompt": ["a"]}, "prompt"),
    ],
)
async def test_what_is_wrong_is_named(
    backend: RunningBackend, path: str, body: Any, field: str
) -> None:
    status, answer = await backend.post(path, body)
    assert (status, answer["error"]["field"]) == (422, field)


async def test_who_leaves_a_stream_stops_its_work(
    backend: RunningBackend, caplog: pytest.LogCaptureFixture
) -> None:
    runner = backend.keeper.model.engine.runner
    assert isinstance(runner, HeldRunner)
    body = {"prompt": "x = ", "max_tokens": 400, "stream": True, "temperature": 0}
    before = backend.keeper.model.engine.counters.cancelled
    runner.hold(after=8)  # or the work might be done before the client leaves
    async with backend.http.post(
        backend.url + "/v1/completions", json=body
    ) as response:
        assert await response.content.readline()
        response.close()
    await until(lambda: backend.service.places.taken == 0)
    runner.release()
    counters = backend.keeper.model.engine.counters
    await until(lambda: counters.cancelled > before)
    assert await backend.metric("tabwise_client_disconnects_total") == 1
    assert not caplog.records

"""OpenAI-compatible servers: what they say, and what they are asked."""

import asyncio
import math
from typing import Any

import attrs
import pytest

from support.replies import Request, answer, events, reply_server
from tabwise_server.backends.http import Endpoint
from tabwise_server.backends.openai import OpenAIBackend
from tabwise_server.backends.templates import TEMPLATES
from tabwise_server.errors import BackendUnavailable, BadRequest, DeadlineExceeded
from tabwise_server.wire import CompletionRequest, ContextChunk

REQUEST = CompletionRequest(prefix="def f(a, b):\n    return a", suffix="\n\nf()\n")


def vllm(text: str, token: str, logprob: float, finish: str | None = None) -> Any:
    """One event as vLLM 0.32 sent it."""
    return {
        "id": "cmpl-93fec76692b9b0fd",
        "object": "text_completion",
        "created": 1795466201,
        "model": "tabwise",
        "choices": [
            {
                "index": 0,
                "text": text,
                "logprobs": {
                    "text_offset": [0],
                    "token_logprobs": [logprob],
                    "tokens": [token],
                    "top_logprobs": [{token: logprob}],
                },
                "finish_reason": finish,
                "stop_reason": None,
                "prompt_token_ids": None,
                "token_ids": None,
            }
        ],
        "usage": {"prompt_tokens": 13, "total_tokens": 14, "completion_tokens": 1},
    }


def ollama(text: str, finish: str | None = None) -> Any:
    """One event in the form of Ollama's OpenAI routes: no log-probabilities."""
    choice = {"text": text, "index": 0, "finish_reason": finish}
    return {
        "id": "cmpl-521",
        "object": "text_completion",
        "created": 1795466201,
        "choices": [choice],
        "model": "qwen2.5-coder:1.5b-base",
        "system_fingerprint": "fp_ollama",
    }


def llama_cpp(text: str, logprob: float, finish: str | None = None) -> Any:
    """One event as llama.cpp's server sends it on /v1/completions."""
    token = {"id": 1, "token": text, "bytes": [], "logprob": logprob}
    choice = {"text": text, "index": 0, "logprobs": {"content": [token]}}
    return {"choices": [{**choice, "finish_reason": finish}], "model": "gpt-3.5-turbo"}


def mistral(text: str, finish: str | None = None) -> Any:
    """One event in the form of Mistral's FIM route: a chat's delta."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def client(
    url: str, template: str = "tabwise", model: str = "tabwise"
) -> OpenAIBackend:
    return OpenAIBackend(Endpoint(url), model, TEMPLATES[template])


async def test_vllm_is_cut_at_the_lines_end_with_the_confidence_of_what_is_kept() -> (
    None
):
    reply = events(
        vllm(", ", ", ", -0.5),
        vllm("", "b", -0.1),  # held back, as vLLM does while a stop may be beginning
        vllm("b\n\n", "\n\n", -3.0) | {"error": None},  # as some gateways add
        vllm("return", "return", -9.0),
    )
    async with reply_server(reply) as server:
        backend = client(server.url)
        response = await backend.complete(REQUEST)
        assert (response.text, response.finish, response.tokens) == (", b", "line", 2)
        assert response.mean_logprob == pytest.approx(-0.3)
        assert response.min_logprob == -0.5
        assert (response.prompt_tokens, response.model) == (13, "tabwise")
        asked = server.requests[0]
        assert (asked.method, asked.target) == ("POST", "/v1/completions")
        assert asked.body == {
            "model": "tabwise",
            "prompt": "<|fim_prefix|><|fim_suffix|>\n\nf()\n<|fim_middle|>"
            "def f(a, b):\n    return a",
            "max_tokens": 48,
            "temperature": 0.0,
            "stream": True,
            "logprobs": 5,
            "skip_special_tokens": False,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        await backend.close()


async def test_a_line_that_cannot_be_likely_enough_is_given_up_at_once() -> None:
    reply = events(vllm("a", "a", -0.1), vllm(" b", " b", -0.9), done=False)
    async with reply_server(reply) as server:
        server.hold = True  # the rest would take for ever
        backend = client(server.url)
        response = await backend.complete(attrs.evolve(REQUEST, min_confidence=0.5))
        assert (response.text, response.finish) == ("", "unsure")
        assert response.confidence == 0.0
        await backend.close()


async def test_the_beginning_of_a_line_that_is_not_likely_enough_is_kept() -> None:
    said = [("self", -0.1), (".na", -0.1), ("me", -0.1), (" = x", -2.5)]
    reply = events(*(vllm(text, text, log) for text, log in said), done=False)
    wanted = attrs.evolve(REQUEST, min_confidence=0.5)
    async with reply_server(reply) as server:
        server.hold = True
        backend = client(server.url)
        for least, text in ((None, ""), (0.8, "self"), (0.85, "")):
            asked = attrs.evolve(wanted, min_part_confidence=least)
            response = await backend.complete(asked)
            assert (response.text, response.finish) == (
                *(text, "part" if text else "unsure"),
            )
            assert response.confidence == pytest.approx(math.exp(-0.1) if text else 0)
        await backend.close()


async def test_no_beginning_of_tokens_that_are_told_otherwise_than_written() -> None:
    reply = events(vllm("é", "\\xc3", -0.1), vllm("(x", "(x", -2.0), done=False)
    wanted = attrs.evolve(REQUEST, min_confidence=0.5, min_part_confidence=0.5)
    async with reply_server(reply) as server:
        server.hold = True
        backend = client(server.url)
        response = await backend.complete(wanted)
        assert (response.text, response.finish) == ("", "unsure")
        await backend.close()


async def test_what_else_was_likely_is_read_in_both_forms() -> None:
    others = {" = x": -2.5, " -> x": -0.4, None: None}
    old = vllm(" = x", " = x", -2.5)
    old["choices"][0]["logprobs"]["top_logprobs"] = [others]
    new = llama_cpp(" = x", -2.5)
    told = [{"token": text, "logprob": log} for text, log in others.items()]
    new["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = told
    wanted = attrs.evolve(REQUEST, min_confidence=0.5, min_part_confidence=0.8)
    for last in (old, new):
        reply = events(vllm("name", "name", -0.1), last, done=False)
        async with reply_server(reply) as server:
            server.hold = True
            backend = client(server.url)
            assert (await backend.complete(wanted)).text == "name"
            await backend.close()


async def test_the_confidence_is_the_first_lines_probability() -> None:
    reply = events(vllm("a", "a", -0.1), vllm("\n    b", "\n    b", -5.0))
    async with reply_server(reply) as server:
        backend = client(server.url)
        wanted = attrs.evolve(REQUEST, stop="block", min_confidence=0.5)
        response = await backend.complete(wanted)
        assert response.text == "a\n    b"
        assert response.confidence == pytest.approx(math.exp(-0.1))
        await backend.close()


async def test_what_is_not_wanted_any_more_is_not_generated() -> None:
    async with reply_server(events(vllm(", b\n", "x", -1.0), done=False)) as server:
        server.hold = True  # as if it went on generating
        backend = client(server.url)
        assert (await backend.complete(REQUEST)).text == ", b"
        async with asyncio.timeout(10):
            await server.left.acquire()
        await backend.close()


async def test_cancelling_closes_the_connection() -> None:
    async with reply_server(events(vllm(", b", "x", -1.0), done=False)) as server:
        server.hold = True
        backend = client(server.url)
        task = asyncio.create_task(backend.complete(REQUEST))
        while not server.requests:  # noqa: ASYNC110  the server is in this loop
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(10):
            await server.left.acquire()
        with pytest.raises(asyncio.CancelledError):
            await task
        await backend.close()


async def test_a_sentinel_ends_the_text_and_is_not_shown() -> None:
    reply = events(vllm(" + b", "x", -1.0), vllm("<|endoftext|>\nimport", "y", -1.0))
    async with reply_server(reply) as server:
        backend = client(server.url)
        response = await backend.complete(REQUEST)
        assert (response.text, response.finish) == (" + b", "end")
        await backend.close()


async def test_ollama_makes_the_prompt_from_a_suffix_of_its_own() -> None:
    reply = events(ollama(" +"), ollama(" b"), ollama("", "stop"))
    async with reply_server(reply) as server:
        backend = client(server.url, "suffix", "qwen2.5-coder:1.5b-base")
        response = await backend.complete(REQUEST)
        assert (response.text, response.finish, response.tokens) == (" + b", "end", 2)
        assert response.mean_logprob == 0.0
        assert server.requests[0].body["prompt"] == REQUEST.prefix
        assert server.requests[0].body["suffix"] == REQUEST.suffix
        await backend.close()


async def test_llama_cpps_newer_log_probabilities_are_read() -> None:
    reply = events(llama_cpp(" + b", -0.25), llama_cpp("", -1.0, "length"))
    async with reply_server(reply) as server:
        backend = client(f"{server.url}/v1")
        response = await backend.complete(REQUEST)
        assert (response.text, response.finish) == (" + b", "length")
        assert response.mean_logprob == -0.25
        assert server.requests[0].target == "/v1/completions"
        await backend.close()


async def test_mistrals_own_route_is_asked_in_the_oldest_form_once_it_refused() -> None:
    def reply(request: Request) -> bytes:
        if "logprobs" in request.body:
            refusal = {"detail": "extra fields not permitted"}
            return answer(refusal, "422 Unprocessable Entity")
        return events(mistral(" + b"), mistral("", "stop"))

    async with reply_server(reply) as server:
        backend = client(server.url, "mistral-api", "codestral-latest")
        for _ in range(2):
            assert (await backend.complete(REQUEST)).text == " + b"
        assert [r.target for r in server.requests] == ["/v1/fim/completions"] * 3
        assert "logprobs" not in server.requests[2].body
        await backend.close()


async def test_a_refusal_that_is_not_about_our_fields_stays_one() -> None:
    refusal = answer({"error": {"message": "the model `x` is absent"}}, "404 Not Found")
    async with reply_server(refusal) as server:
        backend = client(server.url)
        with pytest.raises(BadRequest, match="the model `x` is absent"):
            await backend.complete(REQUEST)
        await backend.close()


async def test_a_server_that_does_not_stream_is_understood() -> None:
    async with reply_server(answer(ollama(" + b\nmore", "stop"))) as server:
        backend = client(server.url)
        assert (await backend.complete(REQUEST)).text == " + b"
        await backend.close()


async def test_a_failure_in_mid_stream_is_a_failure() -> None:
    reply = events(vllm(" + b", "x", -1.0), {"error": {"message": "out of memory"}})
    async with reply_server(reply) as server:
        backend = client(server.url)
        with pytest.raises(BackendUnavailable, match="out of memory"):
            await backend.complete(REQUEST)
        await backend.close()


async def test_a_slow_server_costs_no_more_than_the_deadline() -> None:
    async with reply_server(events(vllm(" + b", "x", -1.0), done=False)) as server:
        server.hold = True
        backend = client(server.url)
        with pytest.raises(DeadlineExceeded):
            await backend.complete(CompletionRequest(prefix="x", deadline_ms=20))
        await backend.close()


async def test_context_goes_into_the_prompt_and_health_knows_the_model() -> None:
    models = {"data": [{"id": "tabwise"}]}

    def reply(request: Request) -> bytes:
        if request.method == "GET":
            return answer(models)
        return events(vllm("x\n", "x", -1.0))

    async with reply_server(reply) as server:
        backend = client(server.url)
        health = await backend.health()
        assert (health.ready, health.model, health.status) == (
            True,
            "tabwise",
            "healthy",
        )
        chunk = ContextChunk(path="b.py", text="B = 1\n")
        await backend.complete(CompletionRequest(prefix="x", context=[chunk]))
        prompt = server.requests[-1].body["prompt"]
        assert prompt.startswith("<|file_sep|>b.py\nB = 1\n<|fim_prefix|>")
        models["data"] = [{"id": "another"}]
        assert (await backend.health()).status == "model not listed"
        await backend.close()

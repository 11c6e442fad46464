import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from support.backend import HeldRunner, RunningBackend, running_backend
from support.models import random_checkpoint
from tabwise_model.runners.torch import TorchRunner


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[RunningBackend]:
    async with running_backend(HeldRunner(), max_body_bytes=20_000) as running:
        yield running


async def test_the_seeds_route_answers_in_the_seeds_form(
    backend: RunningBackend,
) -> None:
    status, answer = await backend.post("/complete", {"code": "def f", "max_tokens": 5})
    assert status == 200
    assert answer.keys() == {"completion", "tokens", "latency_ms"}
    assert answer["tokens"] == 5
    assert isinstance(answer["completion"], str)
    assert answer["latency_ms"] > 0


async def test_our_route_tells_how_it_went(backend: RunningBackend) -> None:
    body = {"prefix": "def f(", "suffix": "\n", "max_new_tokens": 4, "stop": "none"}
    status, answer = await backend.post("/v1/tabwise/complete", body)
    assert status == 200
    assert (answer["finish"], answer["tokens"]) == ("length", 4)
    assert answer["min_logprob"] <= answer["mean_logprob"] < 0
    assert answer["cached_tokens"] == 0
    _, again = await backend.post("/v1/tabwise/complete", body)
    assert again["cached_tokens"] == again["prompt_tokens"] - 1
    assert again["text"] == answer["text"]
    assert answer["timings"].keys() == {
        "queue_ms",
        "prefill_ms",
        "decode_ms",
        "latency_ms",
    }


async def test_the_same_seed_gives_the_same_sample(backend: RunningBackend) -> None:
    texts = []
    for seed in (1, 1, 2):
        body = {"prefix": "x", "temperature": 2.0, "seed": seed, "stop": "none"}
        texts.append((await backend.post("/v1/tabwise/complete", body))[1]["text"])
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("path", ["/complete", "/v1/tabwise/complete"])
async def test_a_real_model_answers(path: str) -> None:
    checkpoint = random_checkpoint("llama")
    runner = TorchRunner(checkpoint, n_slots=2, slot_tokens=64, device="cpu")
    async with running_backend(runner, checkpoint) as backend:
        key = "code" if path == "/complete" else "prefix"
        status, answer = await backend.post(path, {key: "def f(x):\n    return x" * 9})
        assert status == 200
        assert answer["tokens"] <= 50


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/complete", {"code": ""}, 422, "code"),
        ("/complete", {}, 422, "code"),
        ("/complete", {"code": 5}, 422, "code"),
        ("/complete", {"code": "x", "max_tokens": 0}, 422, "max_tokens"),
        ("/complete", {"code": "x", "max_tokens": 10**6}, 422, "max_tokens"),
        ("/complete", {"code": "x", "max_tokens": "9"}, 422, "max_tokens"),
        ("/complete", {"code": "x", "temperature": 99}, 422, "temperature"),
        ("/complete", {"code": "x", "language": "py"}, 422, "language"),
        ("/complete", {"code": "x" * 30_000}, 413, "body"),
        ("/complete", ["code"], 422, None),
        ("/v1/tabwise/complete", {"prefix": None}, 422, "prefix"),
        ("/v1/tabwise/complete", {"prefix": "x", "stop": "?"}, 422, "stop"),
        ("/v1/tabwise/complete", {"prefix": "x", "context": [3]}, 422, "context[0]"),
    ],
)
async def test_what_is_wrong_with_a_request_is_named(
    backend: RunningBackend, path: str, body: Any, status: int, field: str | None
) -> None:
    got, answer = await backend.post(path, body)
    assert got == status
    assert answer["error"]["field"] == field
    assert answer["detail"] == answer["error"]["message"]
    assert (field or "object") in answer["detail"]
    assert backend.keeper.model.engine.counters.finished == 1  # the warm-up alone
    label = 'code_completion_requests_total{status="error"}'
    assert await backend.metric(label) == 1
    assert (await backend.post("/complete", {"code": "x"}))[0] == 200


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe\xfa", b"[" * 19_000, b'{"code": "x"}}', b"nil"]
)
async def test_a_body_that_is_not_json_is_a_400(
    backend: RunningBackend, data: bytes
) -> None:
    status, answer = await backend.post("/complete", data=data)
    assert status == 400
    assert answer["error"]["code"] == "invalid_json"


async def test_unknown_routes_and_wrong_methods_answer_json(
    backend: RunningBackend,
) -> None:
    status, text = await backend.get("/nowhere")
    assert (status, json.loads(text)["error"]["code"]) == (404, "not_found")
    status, text = await backend.get("/complete")
    assert (status, json.loads(text)["error"]["code"]) == (405, "method_not_allowed")


async def test_odd_texts_are_completed_like_any_other(backend: RunningBackend) -> None:
    odd = ["\ud800", "\x00", "\r\n\r\n", "🐍" * 700, "<|endoftext|>", "\u202e", " "]
    for text in odd:
        body = json.dumps({"prefix": text, "suffix": text, "path": text[:9]}).encode()
        status, answer = await backend.post("/v1/tabwise/complete", data=body)
        assert status == 200, (text[:9], answer)


async def test_health_tells_what_is_served(backend: RunningBackend) -> None:
    status, text = await backend.get("/health")
    health = json.loads(text)
    assert status == 200
    assert (health["status"], health["model_loaded"]) == ("healthy", True)
    assert (health["device"], health["model"]) == ("cpu", "fake")


async def test_metrics_have_the_seeds_names(backend: RunningBackend) -> None:
    await backend.post("/complete", {"code": "x", "max_tokens": 5})
    assert await backend.metric('code_completion_requests_total{status="success"}') == 1
    assert await backend.metric('code_completion_requests_total{status="error"}') == 0
    assert await backend.metric("code_completion_duration_seconds_count") == 1
    assert await backend.metric("tokens_generated_total") == 5
    assert await backend.metric("active_requests") == 0
    _, text = await backend.get("/metrics")
    for bound in ("0.1", "0.15", "0.2", "0.5", "1.0", "2.0", "5.0"):
        assert f'code_completion_duration_seconds_bucket{{le="{bound}"}}' in text


async def test_fifty_at_once_each_get_their_own_answer(
    backend: RunningBackend,
) -> None:
    def body(n: int) -> dict[str, Any]:
        text = f"{n} {'shared head ' * (n % 3)}{n * 7919}"
        return {"prefix": text, "max_new_tokens": 12, "stop": "none"}

    async def ask(n: int) -> str:
        status, answer = await backend.post("/v1/tabwise/complete", body(n))
        assert status == 200
        return str(answer["text"])

    alone = [await ask(n) for n in range(50)]
    assert len(set(alone)) > 40
    together = await asyncio.gather(*(ask(n) for n in range(50)))
    assert together == alone
    assert await backend.metric("active_requests") == 0

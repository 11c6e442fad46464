import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from serving.conftest import StartBackend
from support.models import random_checkpoint
from support.runners import HashRunner
from tabwise_model.runners.protocol import Chunk, Logits
from tabwise_model.runners.torch import TorchRunner

OURS = "/v1/tabwise/complete"


class GatedRunner(HashRunner):
    """Stops before every forward pass until the gate is open; never says END."""

    def __init__(self) -> None:
        super().__init__(n_slots=2, slot_tokens=64)
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()

    def extend(self, chunks: Sequence[Chunk]) -> Logits:
        self.waiting.set()
        assert self.gate.wait(20)
        logits = super().extend(chunks)
        logits[:, 256:] = -100
        logits[:, ord("\n")] = -100
        return logits


async def until(condition: Any) -> None:
    """Poll something that another thread or process will make true."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - another thread makes it true
            await asyncio.sleep(0.005)


async def test_the_seeds_request_and_answer(start_backend: StartBackend) -> None:
    backend = await start_backend()
    status, body = await backend.post("/complete", {"code": "def f("})
    assert status == 200
    assert body.keys() == {"completion", "tokens", "latency_ms"}
    assert isinstance(body["completion"], str)
    assert body["tokens"] <= 50
    status, body = await backend.post(
        "/complete", {"code": "x", "max_tokens": 3, "temperature": 0.0, "top_k": None}
    )
    assert (status, body["tokens"]) == (200, 3)


async def test_health_says_what_the_seed_says_and_more(
    start_backend: StartBackend,
) -> None:
    backend = await start_backend()
    async with backend.client.get(backend.url + "/health") as answer:
        body = await answer.json()
    assert (body["status"], body["model_loaded"], body["device"]) == (
        "healthy",
        True,
        "cpu",
    )
    for path in ("/livez", "/readyz"):
        assert (await backend.get(path))[0] == 200


async def test_metrics_have_the_seeds_names(start_backend: StartBackend) -> None:
    backend = await start_backend()
    await backend.post("/complete", {"code": "x", "max_tokens": 4})
    await backend.post("/complete", {"code": ""})
    _, text = await backend.get("/metrics")
    for line in (
        'code_completion_requests_total{status="success"} 1.0',
        'code_completion_requests_total{status="error"} 1.0',
        'code_completion_duration_seconds_bucket{le="0.2"}',
        "tokens_generated_total",
        "active_requests 0.0",
    ):
        assert line in text


async def test_our_own_route_fills_in_and_tells_its_times(
    start_backend: StartBackend,
) -> None:
    backend = await start_backend(
        TorchRunner(random_checkpoint("llama"), n_slots=2, slot_tokens=64, device="cpu")
    )
    body = {"prefix": "def f(", "suffix": "):\n", "max_new_tokens": 8, "stop": "none"}
    first = (await backend.post(OURS, body))[1]
    again = (await backend.post(OURS, body))[1]
    assert first["text"] == again["text"]
    assert again["cached_tokens"] == again["prompt_tokens"] - 1
    assert again["timings"]["latency_ms"] > 0
    assert first["mean_logprob"] <= 0
    assert first["min_logprob"] <= first["mean_logprob"]


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/complete", {"code": 3}, 422, "code"),
        ("/complete", {}, 422, "code"),
        ("/complete", {"code": ""}, 422, "code"),
        ("/complete", {"code": "x", "max_tokens": 0}, 422, "max_tokens"),
        ("/complete", {"code": "x", "max_tokens": 10_000}, 422, "max_tokens"),
        ("/complete", {"code": "x", "max_tokens": "5"}, 422, "max_tokens"),
        ("/complete", {"code": "x", "max_tokens": True}, 422, "max_tokens"),
        ("/complete", {"code": "x", "temperature": -1}, 422, "temperature"),
        ("/complete", {"code": "x", "top_k": 0}, 422, "top_k"),
        ("/complete", {"code": "x", "colour": 1}, 422, "colour"),
        ("/complete", ["x"], 422, None),
        (OURS, {"prefix": "x", "stop": "word"}, 422, "stop"),
        (OURS, {"prefix": "x", "context": [{"path": "a"}]}, 422, "context[0].text"),
        (OURS, {"prefix": "x", "deadline_ms": 0}, 422, "deadline_ms"),
        ("/complete", {"code": "x" * 3_000}, 413, "body"),
    ],
)
async def test_a_bad_request_is_told_its_field(
    start_backend: StartBackend, path: str, body: Any, status: int, field: str | None
) -> None:
    backend = await start_backend(max_body_bytes=2_000)
    found, answer = await backend.post(path, body)
    assert found == status
    assert answer["error"]["field"] == field
    assert answer["detail"] == answer["error"]["message"]
    if field:
        assert field in answer["detail"]
    assert (await backend.post("/complete", {"code": "x"}))[0] == 200


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe", b"", b"[" * 100_000])
async def test_a_body_that_is_no_json_is_refused(
    start_backend: StartBackend, data: bytes
) -> None:
    backend = await start_backend()
    async with backend.client.post(backend.url + "/complete", data=data) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "invalid_json"


async def test_unknown_routes_and_methods_answer_json(
    start_backend: StartBackend,
) -> None:
    backend = await start_backend()
    assert (await backend.post("/nowhere", {}))[0] == 404
    status, text = await backend.get("/complete")
    assert status == 405
    assert "Method Not Allowed" in text


async def test_a_long_prompt_keeps_its_end(start_backend: StartBackend) -> None:
    backend = await start_backend()
    status, _ = await backend.post("/complete", {"code": "x" * 50_000})
    assert status == 200


async def test_a_key_is_asked_for_where_there_is_one(
    start_backend: StartBackend,
) -> None:
    backend = await start_backend(api_key="sésame")
    assert (await backend.post("/complete", {"code": "x"}))[0] == 401
    assert (await backend.get("/metrics"))[0] == 401
    assert (await backend.get("/health"))[0] == 200
    for key, status in (("wrong", 401), ("sésame", 200)):
        headers = {"Authorization": f"Bearer {key}"}
        found, _ = await backend.post("/complete", {"code": "x"}, headers=headers)
        assert found == status


async def test_a_page_of_another_origin_is_refused(start_backend: StartBackend) -> None:
    backend = await start_backend()
    for origin, status in (("http://evil.example", 403), (backend.url, 200)):
        found, _ = await backend.post(
            "/complete", {"code": "x"}, headers={"Origin": origin}
        )
        assert found == status


async def test_a_client_that_leaves_stops_its_work_within_a_step(
    start_backend: StartBackend,
) -> None:
    runner = GatedRunner()
    backend = await start_backend(runner)
    body = {"prefix": "x", "max_new_tokens": 30, "stop": "none"}
    runner.gate.clear()
    runner.waiting.clear()
    task = asyncio.create_task(backend.post(OURS, body))
    assert await asyncio.to_thread(runner.waiting.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def left() -> bool:
        return backend.service.places.taken == 0

    await until(left)
    before = len(runner.calls)
    runner.gate.set()

    async def cancelled() -> bool:
        return await backend.metric("tabwise_engine_cancelled_total") == 1

    await until(cancelled)
    assert len(runner.calls) == before + 1
    assert (await backend.post("/complete", {"code": "x"}))[0] == 200


async def test_a_full_house_says_when_to_come_back(start_backend: StartBackend) -> None:
    runner = GatedRunner()
    backend = await start_backend(runner, max_queue=2)
    runner.gate.clear()
    body = {"prefix": "x", "max_new_tokens": 4, "stop": "none"}
    tasks = [asyncio.create_task(backend.post(OURS, body)) for _ in range(2)]

    async def full() -> bool:
        return backend.service.places.taken == 2

    await until(full)
    async with backend.client.post(backend.url + OURS, json=body) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
    runner.gate.set()
    assert [status for status, _ in await asyncio.gather(*tasks)] == [200, 200]
    assert await backend.metric('tabwise_rejected_requests_total{reason="full"}') == 1


async def test_a_deadline_drops_queued_work(start_backend: StartBackend) -> None:
    runner = GatedRunner()
    backend = await start_backend(runner)
    runner.gate.clear()
    body = {"prefix": "x", "max_new_tokens": 4, "deadline_ms": 1}
    task = asyncio.create_task(backend.post(OURS, body))

    async def taken() -> bool:
        return backend.service.places.taken == 1

    await until(taken)
    await asyncio.sleep(0.005)  # the deadline itself
    runner.gate.set()
    status, answer = await task
    assert (status, answer["error"]["code"]) == (504, "deadline_exceeded")


async def test_an_engine_failure_is_an_error_and_the_next_request_is_served(
    start_backend: StartBackend,
) -> None:
    runner = HashRunner(slot_tokens=64)
    backend = await start_backend(runner)
    runner.fail_next = RuntimeError("no memory")
    status, answer = await backend.post("/complete", {"code": "x"})
    assert status == 500
    assert "no memory" in answer["detail"]
    assert (await backend.post("/complete", {"code": "x"}))[0] == 200


async def test_fifty_at_once_get_their_own_answers(start_backend: StartBackend) -> None:
    backend = await start_backend()
    bodies = [
        {"prefix": f"value_{i} = ", "max_new_tokens": 6, "stop": "none"}
        for i in range(50)
    ]
    alone = [(await backend.post(OURS, body))[1]["text"] for body in bodies]
    together = await asyncio.gather(*(backend.post(OURS, body) for body in bodies))
    assert [answer["text"] for _, answer in together] == alone
    assert len(set(alone)) > 25


async def test_a_draining_backend_takes_no_more(start_backend: StartBackend) -> None:
    backend = await start_backend()
    backend.service.draining = True
    assert (await backend.get("/readyz"))[0] == 503
    assert (await backend.post("/complete", {"code": "x"}))[0] == 503

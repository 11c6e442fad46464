"""Answers that are given again: to whom, for how long, and whatever Redis does."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis.asyncio

from support.backend import FAKE, HeldRunner, RunningBackend, running_backend, until
from support.redis import RedisServer, needs_redis, running_redis
from tabwise_model.infill import Hole, Wanted
from tabwise_model.request import Finish, Generation, Line, Sampling
from tabwise_server.errors import SettingsError
from tabwise_server.serving.caching import shared
from tabwise_server.serving.caching.kept import key_of, pack, unpack
from tabwise_server.serving.caching.memory import MemoryCache, size_of
from tabwise_server.serving.engine.model import ServedModel
from tabwise_server.serving.question import Question
from tabwise_server.settings import ServeSettings
from tabwise_server.settings_sources import load_settings

OURS = "/v1/tabwise/complete"
ON: dict[str, Any] = {"response_cache_bytes": 1_000_000}
SECRET = "a secret for the tests alone"
FOUND = 'tabwise_response_cache_total{found="%s"}'

QUESTION = Question(about=Hole(prefix="def f(", suffix="):"), wanted=Wanted())
ANSWER = Generation(
    id="7",
    finish=Finish.LINE,
    tokens=[5, 6],
    logprobs=[-0.25, -1.5],
    text=b"x\xff",
    prompt_tokens=9,
    probability=0.5,
    alternatives=[
        Line(
            text=b"y",
            tokens=[7],
            logprobs=[-2.0],
            written=[7],
            probability=0.1,
            finish=Finish.END,
        )
    ],
)


def body(text: str = "x = ", **more: Any) -> dict[str, Any]:
    return {"prefix": text, "max_new_tokens": 8, "stop": "none", **more}


def calls(backend: RunningBackend) -> int:
    runner = backend.keeper.model.engine.runner
    assert isinstance(runner, HeldRunner)
    return len(runner.calls)


async def ask(backend: RunningBackend, asked: Any, **options: Any) -> str:
    """The answer's text, once it is also written wherever answers are kept."""
    status, answer = await backend.post(OURS, asked, **options)
    assert status == 200, answer
    cache = backend.service.cache._shared
    if cache is not None:
        await until(lambda: not cache._writes)
    return str(answer["text"])


async def test_the_same_question_is_computed_once() -> None:
    async with running_backend(HeldRunner(), **ON) as backend:
        first = await ask(backend, body())
        before = calls(backend)
        assert await ask(backend, body()) == first
        assert await ask(backend, body(session="s", deadline_ms=900)) == first
        assert calls(backend) == before
        assert await backend.metric(FOUND % "memory") == 2
        streamed = {"prompt": "x = ", "max_tokens": 4, "temperature": 0}
        _, whole = await backend.post("/v1/completions", streamed)
        async with backend.http.post(
            f"{backend.url}/v1/completions", json={**streamed, "stream": True}
        ) as answer:
            text = await answer.text()
        assert whole["choices"][0]["text"] in text_of_events(text)


def text_of_events(text: str) -> str:
    events = [e.removeprefix("data: ") for e in text.split("\n\n") if "{" in e]
    return "".join(json.loads(event)["choices"][0]["text"] for event in events)


async def test_a_kept_answer_took_no_time_and_has_no_rate() -> None:
    async with running_backend(HeldRunner(), **ON) as backend:
        asked = {"input_prefix": "x = ", "input_suffix": "", "n_predict": 8}
        rates = [
            (await backend.post("/infill", asked))[1]["timings"]["predicted_per_second"]
            for _ in range(2)
        ]
        assert rates[0] > rates[1] == 0


async def test_what_is_drawn_by_chance_is_drawn_again() -> None:
    async with running_backend(HeldRunner(), **ON) as backend:
        asked = body(temperature=2.0)
        texts = {await ask(backend, asked) for _ in range(4)}
        assert len(texts) > 1
        seeded = body(temperature=2.0, seed=4)
        assert await ask(backend, seeded) == await ask(backend, seeded)


async def test_no_key_is_given_what_another_was_answered(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("ann ann-0123456789abcdef\nbob bob-0123456789abcdef\n")
    async with running_backend(HeldRunner(), api_keys_file=str(file), **ON) as backend:
        for name in ("ann", "bob"):
            headers = {"Authorization": f"Bearer {name}-0123456789abcdef"}
            _, answer = await backend.post(OURS, body("x" * 60), headers=headers)
            assert answer["cached_tokens"] == 0  # nor by the prefix cache
        assert backend.service.cache.found["memory"] == 0


def test_a_key_changes_with_all_that_an_answer_depends_on() -> None:
    def key(
        question: Question = QUESTION, owner: str = "ann", **checkpoint: Any
    ) -> bytes | None:
        model = ServedModel(attrs.evolve(FAKE, **checkpoint), HeldRunner())
        return key_of(question, owner, model, b"secret")

    about = QUESTION.about
    assert isinstance(about, Hole)

    def other(**changes: Any) -> Question:
        return attrs.evolve(QUESTION, wanted=attrs.evolve(QUESTION.wanted, **changes))

    keys = [
        key(),
        key(owner="bob"),
        key(digest="another"),
        key(bits=8),
        key(attrs.evolve(QUESTION, about=attrs.evolve(about, prefix="def g("))),
        key(attrs.evolve(QUESTION, about=attrs.evolve(about, context=(("a", "b"),)))),
        key(attrs.evolve(QUESTION, about="def f(")),
        key(attrs.evolve(QUESTION, about=Hole(prefix="ab", suffix="c"))),
        key(attrs.evolve(QUESTION, about=Hole(prefix="a", suffix="bc"))),
        key(attrs.evolve(QUESTION, stop_texts=(b"\n",))),
        key(other(max_new_tokens=9)),
        key(other(min_probability=0.1)),
        key(other(sampling=Sampling(temperature=1.0, seed=1))),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]
    assert key(other(sampling=Sampling(temperature=1.0))) is None


def test_what_is_kept_is_bounded_in_bytes_and_time() -> None:
    now = [0.0]
    cache = MemoryCache(3 * size_of(ANSWER), 60.0, lambda: now[0])
    for name in (b"a", b"b", b"c"):
        cache.put(name, ANSWER)
    assert cache.get(b"a") is ANSWER
    cache.put(b"d", ANSWER)
    assert [cache.get(name) is None for name in (b"a", b"b", b"c", b"d")] == [
        *(False, True, False, False)
    ]
    assert cache.bytes == 3 * size_of(ANSWER)
    now[0] = 60.0
    assert cache.get(b"a") is None
    assert cache.bytes == 2 * size_of(ANSWER)


def test_what_is_written_is_read_back() -> None:
    assert unpack(pack(ANSWER)) == ANSWER
    for wrong in (b"", b"{}", b"[]", b"\xff", pack(ANSWER)[:-1]):
        with pytest.raises(ValueError):  # noqa: PT011 - of any kind
            unpack(wrong)


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with running_redis() as running:
        yield running


@contextlib.asynccontextmanager
async def looking_into(server: RedisServer) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis(port=server.port) as client:
        yield client


def sharing(server: RedisServer, **options: Any) -> dict[str, Any]:
    return {"redis_url": server.url, "cache_secret": SECRET, **options}


@needs_redis
async def test_what_one_backend_answered_another_need_not_compute(
    server: RedisServer,
) -> None:
    async with running_backend(HeldRunner(), **sharing(server)) as first:
        text = await ask(first, body("secret = "))
    async with running_backend(HeldRunner(), **sharing(server)) as second:
        before = calls(second)
        assert await ask(second, body("secret = ")) == text
        assert calls(second) == before
        assert await second.metric(FOUND % "redis") == 1
    async with looking_into(server) as client:
        [key] = await client.keys()
        assert 0 < await client.pttl(key) <= 600_000
        assert b"secret" not in key + await client.get(key)


@needs_redis
async def test_backends_of_another_secret_share_nothing(server: RedisServer) -> None:
    async with running_backend(HeldRunner(), **sharing(server)) as first:
        await ask(first, body())
    other = sharing(server, cache_secret="another secret of the tests")
    async with running_backend(HeldRunner(), **other) as second:
        await ask(second, body())
        assert await second.metric(FOUND % "redis") == 0


@needs_redis
@pytest.mark.parametrize("lie", ["another's", "garbage", "cut", "empty", "a list"])
async def test_a_redis_that_lies_is_not_believed(server: RedisServer, lie: str) -> None:
    async with running_backend(HeldRunner(), **sharing(server)) as backend:
        texts = [await ask(backend, body(f"x{n} = ")) for n in range(2)]
    async with looking_into(server) as client:
        keys = await client.keys()
        values = [await client.get(key) for key in keys]
        for key, other in zip(keys, reversed(values), strict=True):
            await client.delete(key)
            if lie == "a list":
                await client.rpush(key, b"no answer")
                continue
            lies = {"another's": other, "garbage": b"\xff" * 90, "cut": other[:40]}
            await client.set(key, lies.get(lie, b""))
    async with running_backend(HeldRunner(), **sharing(server)) as backend:
        assert [await ask(backend, body(f"x{n} = ")) for n in range(2)] == texts
        reason = "unreachable" if lie == "a list" else "forged"
        failures = f'tabwise_redis_failures_total{{reason="{reason}"}}'
        assert await backend.metric(failures) >= 1


@needs_redis
async def test_a_redis_that_dies_costs_nobody_an_answer(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "REST_S", 0.05)
    async with running_backend(HeldRunner(), **sharing(server)) as backend:
        text = await ask(backend, body())
        await server.kill()
        for n in range(5):
            await ask(backend, body(f"x{n} = "))
        assert await ask(backend, body()) == text
        await server.start()
        rests = backend.service.cache._shared
        assert rests is not None
        await until(lambda: time.monotonic() > rests._rests_until)
        await ask(backend, body("back = "))
        async with looking_into(server) as client:
            assert len(await client.keys()) == 1


@needs_redis
async def test_a_redis_that_hangs_costs_one_request_its_time_limit(
    server: RedisServer,
) -> None:
    async with running_backend(
        HeldRunner(), **sharing(server, redis_timeout_ms=20)
    ) as backend:
        await ask(backend, body())
        server.signal(signal.SIGSTOP)
        try:
            answers = [ask(backend, body(f"x{n} = ")) for n in range(20)]
            async with asyncio.timeout(20):
                await asyncio.gather(*answers)
        finally:
            server.signal(signal.SIGCONT)
        failures = 'tabwise_redis_failures_total{reason="unreachable"}'
        assert await backend.metric(failures) >= 1


async def test_without_redis_where_one_was_named_all_is_served() -> None:
    nowhere: dict[str, Any] = {
        "redis_url": "redis://127.0.0.1:1/0",
        "cache_secret": SECRET,
    }
    async with running_backend(HeldRunner(), **nowhere) as backend:
        await ask(backend, body())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"redis_url": "redis://h"}, "redis_url needs cache_secret"),
        ({"cache_secret": "short"}, "at least 16 characters, got 5"),
        ({"redis_url": "h", "cache_secret": SECRET}, "redis_url must be like"),
    ],
)
async def test_what_cannot_work_is_named_without_a_secret(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        async with running_backend(HeldRunner(), **options):
            pass
    assert SECRET not in str(refused.value)


def test_a_secret_of_the_wrong_kind_is_not_shown() -> None:
    with pytest.raises(SettingsError, match="cache_secret must be a string") as refused:
        load_settings({"serve": {"cache_secret": 4711}}, environ={})
    assert "4711" not in str(refused.value)
    assert SECRET not in repr(ServeSettings(cache_secret=SECRET))

"""Full houses, clients that leave, deadlines, failures, draining."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from support.backend import (
    HeldRunner,
    RunningBackend,
    entered,
    running_backend,
    until,
)
from tabwise_model.request import GenerationRequest
from tabwise_server.serving.admission.limits import LATE_S, Draining
from tabwise_server.serving.engine.reader import Reader
from tabwise_server.serving.question import Question
from tabwise_server.wire import CompletionRequest, unstructure

OURS = "/v1/tabwise/complete"
LONG = "x = 1\n" * 1_000


def body(text: str = "x", new_tokens: int = 30, **options: Any) -> dict[str, Any]:
    request = CompletionRequest(
        prefix=text, max_new_tokens=new_tokens, stop="none", **options
    )
    return unstructure(request)


def ask(backend: RunningBackend, wanted: dict[str, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(backend.post(OURS, wanted))


async def test_a_client_that_leaves_stops_its_work_within_a_step() -> None:
    runner = HeldRunner()
    async with running_backend(runner) as backend:
        runner.hold()
        leaving = ask(backend, body())
        await entered(runner)
        leaving.cancel()
        await until(lambda: backend.service.places.taken == 0)
        before = len(runner.calls)
        runner.release()
        counters = backend.keeper.model.engine.counters
        await until(lambda: counters.cancelled == 1)
        assert len(runner.calls) == before + 1  # the step in which it left
        assert await backend.metric("tabwise_client_disconnects_total") == 1
        label = 'code_completion_requests_total{status="error"}'
        assert await backend.metric(label) == 0


async def test_a_client_that_leaves_the_queue_is_never_computed() -> None:
    runner = HeldRunner(n_slots=1)
    async with running_backend(runner) as backend:
        runner.hold()
        staying = ask(backend, body("first", 5))
        await entered(runner)
        leaving = ask(backend, body("second", 5))
        await until(lambda: backend.service.places.taken == 2)
        leaving.cancel()
        await until(lambda: backend.service.places.taken == 1)
        runner.release()
        status, answer = await staying
        assert (status, answer["tokens"]) == (200, 5)
        asked = {token for call in runner.calls for c in call for token in c.tokens}
        assert ord("d") not in asked  # "second" has one, "first" has none


async def test_one_that_leaves_disturbs_no_other() -> None:
    runner = HeldRunner()
    async with running_backend(runner) as backend:
        texts = [f"shared head {n}" for n in range(20)]
        alone = [(await backend.post(OURS, body(t)))[1]["text"] for t in texts]
        runner.hold()
        tasks = [ask(backend, body(t)) for t in texts]
        await until(lambda: backend.service.places.taken == len(texts))
        for task in tasks[::2]:
            task.cancel()
        runner.release()
        answers = await asyncio.gather(*tasks[1::2])
        assert [answer["text"] for _, answer in answers] == alone[1::2]


async def test_a_full_house_says_when_to_come_back() -> None:
    runner = HeldRunner()
    async with running_backend(runner, max_queue=2) as backend:
        runner.hold()
        tasks = [ask(backend, body(new_tokens=3)) for _ in range(2)]
        await until(lambda: backend.service.places.taken == 2)
        async with backend.http.post(backend.url + OURS, json=body()) as refused:
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) >= 1
            assert (await refused.json())["error"]["code"] == "overloaded"
        runner.release()
        assert [status for status, _ in await asyncio.gather(*tasks)] == [200, 200]
        label = 'tabwise_rejected_requests_total{reason="overloaded"}'
        assert await backend.metric(label) == 1
        assert (await backend.post(OURS, body()))[0] == 200


async def test_a_house_that_clients_leave_unanswered_lets_fewer_in() -> None:
    runner = HeldRunner()
    async with running_backend(runner, max_queue=20) as backend:
        places = backend.service.places
        runner.hold()
        tasks = [ask(backend, body(f"{n}", new_tokens=1)) for n in range(20)]
        await until(lambda: places.taken == 20)
        await asyncio.sleep(2 * LATE_S)
        for task in tasks[:2]:
            task.cancel()
        await until(lambda: places.taken == 18)
        assert await backend.metric("tabwise_places") == places.room == 18
        assert (await backend.post(OURS, body()))[0] == 503
        runner.release()
        answers = await asyncio.gather(*tasks[2:])
        assert {status for status, _ in answers} == {200}
        assert places.room == 20
        assert (await backend.post(OURS, body(new_tokens=1)))[0] == 200


async def test_so_does_one_that_answers_after_the_deadline() -> None:
    runner = HeldRunner()
    async with running_backend(runner, max_queue=40) as backend:
        runner.hold()
        late = body(deadline_ms=1500 * LATE_S)
        assert (await backend.post(OURS, late))[0] == 504
        assert backend.service.places.room == 39
        runner.release()


async def test_who_has_not_sent_all_does_not_wait_for_an_answer() -> None:
    async with running_backend(HeldRunner(), max_queue=40) as backend:
        host, port = backend.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST {OURS} HTTP/1.1\r\nHost: x\r\n".encode())
        writer.write(b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        await until(lambda: backend.service.places.taken == 1)
        await asyncio.sleep(2 * LATE_S)
        writer.close()
        await until(lambda: backend.service.places.taken == 0)
        assert backend.service.places.room == 40


async def test_a_full_house_refuses_before_it_reads() -> None:
    runner = HeldRunner()
    async with running_backend(runner, max_queue=1) as backend:
        runner.hold()
        task = ask(backend, body(new_tokens=1))
        await until(lambda: backend.service.places.taken == 1)
        status, _ = await backend.post(OURS, data=b"not even JSON")
        assert status == 503
        runner.release()
        assert (await task)[0] == 200


async def test_a_full_house_refuses_while_it_tokenises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenising, going = threading.Event(), threading.Event()

    def slowly(*given: Any, **named: Any) -> GenerationRequest:
        tokenising.set()
        assert going.wait(60), "the test never let it go on"
        return request(*given, **named)

    runner = HeldRunner()
    async with running_backend(runner, max_queue=2) as backend:
        infiller = backend.keeper.model._reader._infiller
        request = infiller.request
        runner.hold()
        first = ask(backend, body(new_tokens=3))
        await entered(runner)
        monkeypatch.setattr(infiller, "request", slowly)
        second = ask(backend, body(LONG, new_tokens=3))
        assert await asyncio.to_thread(tokenising.wait, 30)
        assert (await backend.post(OURS, body()))[0] == 503
        second.cancel()
        await until(lambda: backend.service.places.taken == 1)
        going.set()
        runner.release()
        assert (await first)[0] == 200
        assert (
            backend.keeper.model.engine.counters.finished == 2
        )  # the warm-up, the first


async def test_a_deadline_ends_what_is_running_and_what_waits() -> None:
    runner = HeldRunner(n_slots=1)
    async with running_backend(runner) as backend:
        runner.hold()
        tasks = [ask(backend, body(deadline_ms=50.0)) for _ in range(2)]
        await until(lambda: backend.service.places.taken == 2)
        await asyncio.sleep(0.06)  # the deadline itself, not a synchronisation
        runner.release()
        for status, answer in await asyncio.gather(*tasks):
            assert (status, answer["error"]["code"]) == (504, "deadline_exceeded")
        assert backend.keeper.model.engine.counters.expired == 2


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/complete", {"code": "x"}),
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/completions", {"prompt": "x", "stream": True}),
        ("/infill", {"input_prefix": "x"}),
        (OURS, {"prefix": "x", "deadline_ms": 3_600_000}),
    ],
)
async def test_every_route_heeds_the_deadline_of_the_header(
    path: str, wanted: dict[str, Any]
) -> None:
    runner = HeldRunner()
    async with running_backend(runner) as backend:
        runner.hold()
        headers = {"X-Tabwise-Deadline-Ms": "20"}
        status, answer = await backend.post(path, wanted, headers=headers)
        assert (status, answer["error"]["code"]) == (504, "deadline_exceeded")
        runner.release()
        await until(lambda: not backend.keeper.model.engine.has_work)


async def test_the_servers_own_time_limit_is_everybodys_deadline() -> None:
    runner = HeldRunner()
    async with running_backend(runner, request_timeout_s=0.02) as backend:
        runner.hold()
        assert (await backend.post(OURS, body(deadline_ms=60_000)))[0] == 504
        runner.release()


@pytest.mark.parametrize("given", ["soon", "0", "-5", "nan", "inf", "1e9"])
async def test_a_deadline_that_is_none_is_refused(given: str) -> None:
    async with running_backend(HeldRunner()) as backend:
        headers = {"X-Tabwise-Deadline-Ms": given}
        status, answer = await backend.post(OURS, body(), headers=headers)
        assert (status, answer["error"]["field"]) == (422, "X-Tabwise-Deadline-Ms")


async def test_a_runner_that_fails_is_told_and_the_next_request_is_served() -> None:
    runner = HeldRunner()
    async with running_backend(runner) as backend:
        runner.fail_next = RuntimeError("no memory")
        status, answer = await backend.post(OURS, body())
        assert (status, answer["error"]["code"]) == (500, "engine_failed")
        assert "no memory" in answer["detail"]
        assert (await backend.post(OURS, body()))[0] == 200
        assert backend.keeper.model.bridge.restarts == 0


async def test_logits_that_are_not_finite_are_an_error_not_bad_json() -> None:
    class Poisoned(HeldRunner):
        poison = False

        def extend(self, chunks: Any) -> Any:
            logits = super().extend(chunks)
            return logits * np.nan if self.poison else logits

    runner = Poisoned()
    async with running_backend(runner) as backend:
        runner.poison = True
        status, answer = await backend.post(OURS, body())
        assert status == 500
        assert "not finite" in answer["detail"]


async def test_a_defect_in_the_engine_answers_everyone_and_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = HeldRunner()
    async with running_backend(runner) as backend:
        runner.hold()
        tasks = [ask(backend, body()) for _ in range(3)]
        await until(lambda: backend.service.places.taken == 3)
        await entered(runner)

        def broken(*_: Any) -> None:
            raise KeyError("a defect")

        with monkeypatch.context() as patch:
            patch.setattr(backend.keeper.model.engine, "_postprocess", broken)
            runner.release()
            for status, answer in await asyncio.gather(*tasks):
                assert status == 500
                assert "a defect" in answer["detail"]
        assert backend.keeper.model.bridge.restarts >= 1
        assert (await backend.post(OURS, body()))[0] == 200
        assert (await backend.get("/livez"))[0] == 200


async def test_draining_finishes_what_is_there_and_takes_nothing_new() -> None:
    runner = HeldRunner()
    async with running_backend(runner) as backend:
        runner.hold()
        task = ask(backend, body(new_tokens=4))
        await entered(runner)
        backend.service.places.draining = True
        assert (await backend.get("/readyz"))[0] == 503
        status, answer = await backend.post(OURS, body())
        assert (status, answer["error"]["code"]) == (503, "draining")
        stopping = asyncio.create_task(backend.runner.cleanup())
        runner.release()
        status, answer = await task
        assert (status, answer["tokens"]) == (200, 4)
        await stopping


async def test_an_engine_without_work_makes_no_steps() -> None:
    runner = HeldRunner()
    async with running_backend(runner) as backend:
        await backend.post(OURS, body(new_tokens=3))
        bridge = backend.keeper.model.bridge
        await until(lambda: bridge.stalled_s == 0)
        turns: list[object] = []
        original = bridge._turn
        bridge._turn = lambda: turns.append(original())  # type: ignore[method-assign]
        assert (await backend.get("/health"))[0] == 200
        assert turns == []


async def test_what_was_accepted_is_answered_when_the_time_to_drain_is_over() -> None:
    runner = HeldRunner()
    async with running_backend(runner, drain_s=0.05) as backend:
        runner.hold()
        tasks = [ask(backend, body()) for _ in range(2)]
        await until(lambda: backend.service.places.taken == 2)
        backend.service.places.draining = True
        backend.keeper.close(Draining, "the server has shut down")
        for status, answer in await asyncio.gather(*tasks):
            assert (status, answer["error"]["code"]) == (503, "draining")
        runner.release()


async def test_a_prompt_of_any_length_fits() -> None:
    async with running_backend(HeldRunner()) as backend:
        for text in ("x" * 300_000, "x = 1\n" * 50_000):
            status, answer = await backend.post(OURS, body(text, suffix=text))
            assert status == 200
            assert 250 < answer["prompt_tokens"] <= 512 - 30


async def test_only_what_is_long_and_new_is_tokenised_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places: list[str] = []
    plain = Reader.request

    def told(reader: Reader, question: Question) -> GenerationRequest:
        places.append(threading.current_thread().name.partition("_")[0])
        return plain(reader, question)

    monkeypatch.setattr(Reader, "request", told)
    runner = HeldRunner()
    async with running_backend(runner) as backend:
        runner.hold()
        held = ask(backend, body())
        await entered(runner)
        asked = []
        again = {"session": "a"}
        for text, options in (("y", {}), (LONG, {}), (LONG, again), (LONG, again)):
            asked.append(ask(backend, body(text, 3, **options)))
            await until(lambda: len(places) == len(asked) + 1)
        runner.release()
        await asyncio.gather(held, *asked)
    here = threading.current_thread().name
    assert places == [here, here, "prepare", "prepare", here]

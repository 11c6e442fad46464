"""Engines that end or hang are replaced, and checkpoints too, without downtime."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import pytest
from aiohttp import web

from support.backend import (
    FAKE,
    HeldRunner,
    RunningBackend,
    entered,
    running_backend,
    until,
)
from support.runners import HashRunner
from tabwise_model.checkpoint import Checkpoint
from tabwise_model.request import Generation, GenerationRequest
from tabwise_server.errors import CheckpointMissing, SettingsError
from tabwise_server.serving.engine.keeper import MOST_RESTARTS, Keeper
from tabwise_server.serving.engine.model import ServedModel
from tabwise_server.serving.listening import listen
from tabwise_server.settings import ServeSettings

OURS = "/v1/tabwise/complete"
BODY = {"code": "x = ", "max_tokens": 4}
RESTARTS = 'tabwise_engine_restarts_total{reason="%s"}'

# A thread that ends by SystemExit is what some of these tests are about.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)


def fresh(checkpoint: Checkpoint) -> ServedModel:
    return ServedModel(checkpoint, HeldRunner())


def ask(backend: RunningBackend) -> asyncio.Task[tuple[int, dict[str, Any]]]:
    return asyncio.create_task(backend.post("/complete", BODY))


def replaced(keeper: Keeper, model: ServedModel) -> bool:
    return keeper.model is not model


def end_thread(*_: Any) -> None:
    raise SystemExit  # ends a thread without a traceback


async def test_an_engine_that_ends_is_replaced_and_its_requests_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = HeldRunner()
    async with running_backend(runner, build=fresh, stall_s=0.4) as backend:
        first = backend.keeper.model
        runner.hold()
        tasks = [ask(backend) for _ in range(3)]
        await entered(runner)
        monkeypatch.setattr(first.engine, "_postprocess", end_thread)
        runner.release()
        answers = await asyncio.gather(*tasks)
        told = [answer["error"]["code"] for status, answer in answers if status != 200]
        assert set(told) == {"backend_unavailable"}
        await until(lambda: backend.keeper.model is not first)
        assert (await ask(backend))[0] == 200
        assert (await backend.get("/livez"))[0] == 200
        assert await backend.metric(RESTARTS % "ended") == 1


async def test_after_an_engine_ended_prompts_at_rest_are_still_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = HeldRunner(n_slots=16)  # a search takes four
    async with running_backend(runner, stall_s=0.4) as backend:
        rested = {"prefix": "def first(a, b):\n    return a + ", "max_new_tokens": 4}
        broken = {"prefix": "class Second:\n    size = 1\n    ", "max_new_tokens": 4}
        _, before = await backend.post(OURS, rested)
        assert before["cached_tokens"] == 0
        keeper = backend.keeper
        first = keeper.model
        runner.hold()
        task = asyncio.create_task(backend.post(OURS, broken))
        await entered(runner)
        monkeypatch.setattr(first.engine, "_postprocess", end_thread)
        runner.release()
        assert (await task)[0] == 503
        await until(lambda: keeper.model is not first)
        assert keeper.model.engine.runner is runner
        _, again = await backend.post(OURS, rested)
        assert again["text"] == before["text"]
        assert again["cached_tokens"] == again["prompt_tokens"] - 1
        _, other = await backend.post(OURS, broken)
        assert other["cached_tokens"] == 0


async def test_after_an_engine_hung_prompts_at_rest_are_still_computed() -> None:
    runner = HeldRunner(n_slots=16)

    def build(checkpoint: Checkpoint) -> ServedModel:
        return ServedModel(checkpoint, HeldRunner(n_slots=16))

    async with running_backend(runner, build=build, stall_s=0.4) as backend:
        rested = {"prefix": "def first(a, b):\n    return a + ", "max_new_tokens": 4}
        hung = {"prefix": "class Second:\n    size = 1\n    ", "max_new_tokens": 4}
        _, before = await backend.post(OURS, rested)
        keeper = backend.keeper
        first = keeper.model
        runner.hold()
        assert (await backend.post(OURS, hung))[0] == 503
        await until(lambda: keeper.model is not first)
        runner.release()  # what it wrote since is not in the copy
        _, again = await backend.post(OURS, rested)
        assert again["text"] == before["text"]
        assert again["cached_tokens"] == again["prompt_tokens"] - 1
        _, other = await backend.post(OURS, hung)
        assert other["cached_tokens"] == 0
        assert keeper.model.engine.runner is not runner


async def test_an_engine_that_ends_again_gets_another_runner() -> None:
    runner = HeldRunner()
    async with running_backend(runner, build=fresh, stall_s=0.1) as backend:
        keeper = backend.keeper
        for kept in (True, False):
            first = keeper.model
            first.bridge.abandon()
            await until(partial(replaced, keeper, first))
            assert (keeper.model.engine.runner is runner) is kept
            assert (await ask(backend))[0] == 200


async def test_an_engine_that_ended_leaves_nothing_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running_backend(HeldRunner(), build=fresh, stall_s=0.1) as backend:
        keeper = backend.keeper
        keeper.model.bridge.abandon()  # the first is held by the test's own frames
        await until(lambda: keeper.model.bridge.alive)
        doomed = weakref.ref(keeper.model)
        gc.disable()  # a cycle would hold it until the collector happens to come
        try:
            monkeypatch.setattr(keeper.model.engine, "_postprocess", end_thread)
            answers = await asyncio.gather(*(ask(backend) for _ in range(3)))
            assert 503 in [status for status, _ in answers]
            monkeypatch.undo()
            await until(lambda: doomed() is None)
        finally:
            gc.enable()
        assert (await ask(backend))[0] == 200


async def test_an_engine_that_hangs_is_replaced_and_its_requests_are_told() -> None:
    runner = HeldRunner()
    async with running_backend(runner, build=fresh, stall_s=0.4) as backend:
        first = backend.keeper.model
        runner.hold()
        task = ask(backend)
        await entered(runner)
        after = [ask(backend) for _ in range(3)]  # which it has not begun
        status, answer = await task
        assert (status, answer["error"]["code"]) == (503, "backend_unavailable")
        assert [status for status, _ in await asyncio.gather(*after)] == [200] * 3
        assert backend.keeper.model is not first
        assert (await ask(backend))[0] == 200
        assert await backend.metric(RESTARTS % "hung") == 1
        runner.release()  # and its thread, come back, disturbs nobody
        assert (await ask(backend))[0] == 200


async def test_an_engine_that_does_not_move_is_neither_ready_nor_asked() -> None:
    runner = HeldRunner()
    async with running_backend(runner, stall_s=60.0) as backend:
        keeper = backend.keeper
        runner.hold()
        task = ask(backend)
        await entered(runner)
        keeper._stall_s, keeper._most_held_s = 0.02, 0.0
        await until(lambda: keeper.hangs)
        assert (await backend.get("/livez"))[0] == 500
        assert (await backend.get("/readyz"))[0] == 503
        assert (await ask(backend))[0] == 503
        runner.release()
        assert (await task)[0] == 200
        assert (await backend.get("/livez"))[0] == 200


async def test_a_request_waits_for_a_new_engine_if_that_is_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running_backend(HeldRunner(), build=fresh, stall_s=60) as backend:
        keeper = backend.keeper
        started = asyncio.Event()
        first, begin = keeper.model, ServedModel.start

        async def start(model: ServedModel) -> None:
            await started.wait()
            await begin(model)

        monkeypatch.setattr(ServedModel, "start", start)
        first.bridge.abandon()
        late = {"X-Tabwise-Deadline-Ms": "100"}
        status, answer = await backend.post("/complete", BODY, headers=late)
        assert (status, answer["error"]["code"]) == (503, "backend_unavailable")
        waiting = ask(backend)
        await asyncio.sleep(0.1)
        assert not waiting.done()
        started.set()
        assert (await waiting)[0] == 200


async def test_a_deadline_is_kept_even_while_the_engine_hangs() -> None:
    runner = HeldRunner()
    async with running_backend(runner, stall_s=60.0) as backend:
        runner.hold()
        headers = {"X-Tabwise-Deadline-Ms": "50"}
        status, answer = await backend.post("/complete", BODY, headers=headers)
        assert (status, answer["error"]["code"]) == (504, "deadline_exceeded")
        assert backend.service.places.taken == 0
        runner.release()


async def test_what_restarting_does_not_mend_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def doomed(checkpoint: Checkpoint) -> ServedModel:
        model = fresh(checkpoint)
        monkeypatch.setattr(model.engine, "_hand_out", end_after_warming(model))
        return model

    async with running_backend(HeldRunner(), build=doomed, stall_s=0.1) as backend:
        keeper = backend.keeper
        for _ in range(2):  # the first goes on with its runner
            first = keeper.model
            first.bridge.abandon()
            await until(partial(replaced, keeper, first))
        async with asyncio.timeout(60):
            while not keeper.given_up.is_set():
                assert (await ask(backend))[0] == 503
        assert keeper.restarts["ended"] == MOST_RESTARTS + 1
        assert (await backend.get("/livez"))[0] == 500


def end_after_warming(model: ServedModel) -> Callable[[], list[Generation]]:
    """What an engine hands out, once; then its thread ends."""
    hand_out = model.engine._hand_out

    def handed() -> list[Generation]:
        if model.engine.counters.finished and not model.engine._done:
            end_thread()
        return hand_out()

    return handed


async def test_a_new_checkpoint_takes_over_while_the_old_one_finishes() -> None:
    runner, second = HeldRunner(), attrs.evolve(FAKE, name="second", digest="2")
    async with running_backend(runner, read=lambda: second, build=fresh) as backend:
        keeper = backend.keeper
        runner.hold()
        old = ask(backend)
        await entered(runner)
        assert await keeper.reload()
        assert backend.service.checkpoint.name == "second"
        assert (await ask(backend))[0] == 200
        assert not old.done()
        runner.release()
        status, answer = await old
        assert (status, answer["tokens"]) == (200, 4)
        assert await backend.metric("tabwise_engine_finished_total") == 4  # two warm up
        assert not await keeper.reload()  # it lies there unchanged


async def test_a_checkpoint_that_cannot_be_read_changes_nothing() -> None:
    def read() -> Checkpoint:
        raise CheckpointMissing("it is damaged")

    async with running_backend(HeldRunner(), read=read, build=fresh) as backend:
        before = backend.keeper.model
        with pytest.raises(CheckpointMissing):
            await backend.keeper.reload()
        assert backend.keeper.model is before
        assert (await ask(backend))[0] == 200


async def test_a_system_that_shares_no_port_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(_: web.TCPSite) -> None:
        raise ValueError("reuse_port not supported")

    monkeypatch.setattr(web.TCPSite, "start", refuse)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    shared = ServeSettings(reuse_port=True, port=1)
    with pytest.raises(SettingsError, match="shares no port: reuse_port not"):
        await listen(runner, shared, None)


async def test_requests_that_were_left_are_forgotten() -> None:
    runner = HeldRunner()
    async with running_backend(runner, stall_s=60.0) as backend:
        bridge = backend.keeper.model.bridge
        runner.hold()
        tasks = [ask(backend) for _ in range(4)]
        await entered(runner)
        await until(lambda: len(bridge._futures) == 4)
        for task in tasks:
            task.cancel()
        await until(lambda: not bridge._futures)
        runner.release()
        assert (await ask(backend))[0] == 200
        await until(lambda: not bridge._begun)


@pytest.mark.parametrize("goes_on", [False, True])
def test_what_a_hung_engine_holds_is_taken_over_unless_it_goes_on_meanwhile(
    goes_on: bool,
) -> None:
    class Adopting(HeldRunner):
        def adopt(self, other: HashRunner, lengths: Sequence[int]) -> None:
            super().adopt(other, lengths)
            if goes_on:
                old.release()
                step.join()

    old = Adopting(n_slots=4)
    hung = ServedModel(FAKE, old)
    document = GenerationRequest(id="a", prompt=(1, 2, 3), max_new_tokens=1)
    hung.engine.submit(document)
    hung.engine.step()
    old.hold()
    hung.engine.submit(attrs.evolve(document, id="b", prompt=(4, 5)))
    step = threading.Thread(target=hung.engine.step)
    step.start()
    assert old.entered.wait(30)
    successor = ServedModel(FAKE, Adopting(n_slots=4))
    successor.take_over(hung)
    held = [slot.tokens for slot in successor.engine.slots_at_rest().slots]
    assert [tokens for tokens in held if tokens] == ([] if goes_on else [[1, 2, 3]])
    old.release()
    step.join()

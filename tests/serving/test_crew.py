"""Engines in processes of their own: real ones, of a small random model."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from support.backend import until
from support.checkpoints import save_tiny
from tabwise_model.checkpoint import Checkpoint, load_checkpoint
from tabwise_model.infill import Hole, Wanted
from tabwise_model.request import Finish, Generation, Progress, Sampling
from tabwise_server.errors import (
    DeadlineExceeded,
    EngineFailed,
    Overloaded,
    SettingsError,
    TabwiseError,
)
from tabwise_server.serving.admission.limits import Draining
from tabwise_server.serving.engine import crew as crew_module
from tabwise_server.serving.engine.bridge import EngineGone, NotBegun
from tabwise_server.serving.engine.crew import Crew, Homes, beginning
from tabwise_server.serving.engine.keeper import MOST_RESTARTS
from tabwise_server.serving.engine.loading import keeper_of
from tabwise_server.serving.engine.process import EngineProcess
from tabwise_server.serving.question import Asker, Question
from tabwise_server.settings import ServeSettings

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no sockets are inherited")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return with_a_long_window(save_tiny(tmp_path / "tiny"))


def with_a_long_window(folder: Path) -> Checkpoint:
    found = load_checkpoint(folder)
    return attrs.evolve(found, config=attrs.evolve(found.config, block_size=4_096))


@contextlib.asynccontextmanager
async def running_crew(
    checkpoint: Checkpoint, count: int = 2, **options: Any
) -> AsyncIterator[Crew]:
    """options: those of ServeSettings."""
    settings = ServeSettings(**{"slots": 8, "threads": 1, **options})
    crew = Crew(
        checkpoint,
        count,
        lambda: checkpoint,
        lambda fresh: EngineProcess(fresh, settings),
        settings.stall_s,
    )
    await crew.start()
    try:
        yield crew
    finally:
        await crew.stop()


def question(text: str = "def f(", new_tokens: int = 8, **sampling: Any) -> Question:
    wanted = Wanted(max_new_tokens=new_tokens, sampling=Sampling(**sampling))
    return Question(about=text, wanted=wanted)


LONG = question(new_tokens=4_000)


async def ask(
    crew: Crew, asked: Question, session: str | None = None, **options: Any
) -> Generation:
    asker = Asker(session=session, **options)
    model = await crew.model_for(asked, asker)
    return await model.answer(asked, asker)


def what(result: Generation) -> tuple[Any, ...]:
    return result.text, result.tokens, result.logprobs, result.finish


async def test_an_answer_is_that_of_an_engine_in_the_servers_own_process(
    checkpoint: Checkpoint,
) -> None:
    hole = Hole(
        prefix="x = 1\ny = ", suffix="\nprint(x)\n", context=(("a.py", "x = 2\n"),)
    )
    asked = [
        question(),
        question(temperature=0.8, seed=3),
        Question(about=hole, wanted=Wanted(max_new_tokens=8)),
    ]
    keeper = keeper_of(checkpoint, ServeSettings(slots=8, threads=1))
    await keeper.start()
    alone = [await keeper.answer(one, Asker()) for one in asked]
    await keeper.stop()
    async with running_crew(checkpoint) as crew:
        theirs = await asyncio.gather(*(ask(crew, one) for one in asked))
    assert [*map(what, theirs)] == [*map(what, alone)]


async def test_a_document_stays_where_its_prompt_is_computed(
    checkpoint: Checkpoint,
) -> None:
    async with running_crew(checkpoint) as crew:
        for name in ("a", "b", "c"):
            begun = await ask(
                crew, question("class Name:\n    size = "), name, owner=name
            )
            assert begun.cached_tokens == 0
        for name in ("a", "b", "c"):
            on = await ask(
                crew, question("class Name:\n    size = 12"), name, owner=name
            )
            assert on.cached_tokens > 0
        figures = await crew.figures()
        each = [process.figures.counters.finished for process in crew.processes]
    assert sorted(each) == [1 + 2, 1 + 4]  # the warm-ups, and two documents at one
    assert figures.counters.finished == sum(each)
    assert figures.slots == 16
    assert figures.resident_bytes > 10_000_000
    assert figures.cpu_s > 0


def test_documents_are_dealt_out_evenly_and_the_oldest_forgotten() -> None:
    homes = Homes(3, most=6)
    first = {name: homes.of("", name) for name in "abcdef"}
    assert Counter(first.values()) == {0: 2, 1: 2, 2: 2}
    assert {name: homes.of("", name) for name in "fedcb"} == {
        name: first[name] for name in "fedcb"
    }
    assert homes.of("", "g") == first["a"]  # which made room
    assert homes.of("other", "b") == first["f"]  # of another owner


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            Hole(prefix="x = ", suffix="\ny = 2\n"),
            Hole(prefix="x = 1", suffix="\ny = 2\n"),
        ),
        (
            Hole(prefix="x = ", suffix=")\ny = 2\n"),
            Hole(prefix="x = (", suffix="))\ny = 2\n"),
        ),
        (Hole(prefix="z" * 200), Hole(prefix="z" * 200 + "x")),
        ("z" * 200 + "x", "z" * 200 + "xy"),
    ],
)
def test_who_types_in_a_document_without_a_name_stays_too(
    before: Hole | str, after: Hole | str
) -> None:
    wanted = Wanted(max_new_tokens=1)
    names = {
        beginning(Question(about=about, wanted=wanted)) for about in (before, after)
    }
    assert len(names) == 1
    assert names != {""}


async def test_a_process_that_dies_is_replaced_and_others_serve_meanwhile(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "FIGURES_S", 60.0)
    async with running_crew(checkpoint) as crew:
        for name in ("a", "b"):
            await ask(crew, question(), name)
        doomed, other = crew.processes
        assert (await crew.figures()).slots == 16
        in_flight = [asyncio.create_task(ask(crew, LONG, "a")) for _ in range(2)]
        await until(lambda: doomed.in_flight == 2)
        os.kill(doomed.pid, signal.SIGKILL)
        for task in in_flight:
            with pytest.raises(EngineGone, match="has ended"):
                await task
        crew.check()
        async with asyncio.timeout(30):  # nobody waits for who is gone
            assert (await crew.figures()).slots == 16
        asked = question("import os\n")
        assert (await crew.model_for(asked, Asker(session="a"))) is other
        assert what(await ask(crew, asked, "a")) == what(await ask(crew, asked, "b"))
        await until(lambda: crew.processes[0] is not doomed)
        assert (await crew.model_for(asked, Asker(session="a"))) is crew.processes[0]
        assert (await ask(crew, asked, "a")).cached_tokens == 0
        figures = await crew.figures()
        assert figures.restarts == {"ended": 1}
        assert figures.slots == 16


async def test_a_process_that_is_silent_is_replaced(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "MOST_HELD_S", 30.0)  # however busy this is
    monkeypatch.setattr(crew_module, "HUNG_S", 0.4)
    async with running_crew(checkpoint, count=1, stall_s=0.4) as crew:
        (hung,) = crew.processes
        os.kill(hung.pid, signal.SIGSTOP)
        with pytest.raises(EngineGone):
            await ask(crew, question())
        # it waits for the next one
        assert (await ask(crew, question())).finish is Finish.LENGTH
        assert crew.processes[0] is not hung
        assert (await crew.figures()).restarts == {"hung": 1}


async def test_while_a_process_is_in_trouble_others_are_asked(
    checkpoint: Checkpoint,
) -> None:
    async with running_crew(checkpoint, stall_s=60.0) as crew:
        asked, asker = question(), Asker(session="a")
        quiet, other = crew.processes
        assert (await crew.model_for(asked, asker)) is quiet
        long_ago = time.monotonic() - 40.0
        os.kill(quiet.pid, signal.SIGSTOP)
        quiet._asked = long_ago
        assert not await quiet.look(0.1)
        assert (await crew.model_for(asked, asker)) is other
        crew.check()
        os.kill(other.pid, signal.SIGSTOP)
        other._asked = long_ago
        with pytest.raises(Overloaded, match="has answered for a while"):
            await crew.model_for(asked, asker)
        crew.check_alive()
        for process in (quiet, other):
            os.kill(process.pid, signal.SIGCONT)
        assert await quiet.look(30.0)
        assert (await crew.model_for(asked, asker)) is quiet


async def test_who_looks_at_the_same_time_does_not_take_it_for_silent(
    checkpoint: Checkpoint,
) -> None:
    async with running_crew(checkpoint, count=1) as crew:
        (process,) = crew.processes

        async def often() -> list[bool]:
            return [await process.look(30.0) for _ in range(100)]

        found = await asyncio.gather(*(often() for _ in range(8)))
        assert all(map(all, found))


def given_up_or_replaced(crew: Crew, process: EngineProcess) -> bool:
    return crew.given_up.is_set() or crew.processes[0] is not process


async def test_what_restarting_does_not_mend_is_given_up(
    checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_crew(checkpoint, count=1) as crew:
        while not crew.given_up.is_set():
            process = crew.processes[0]
            os.kill(process.pid, signal.SIGKILL)
            await until(partial(given_up_or_replaced, crew, process))
        assert (await crew.figures()).restarts["ended"] == MOST_RESTARTS + 1
        with pytest.raises(NotBegun):
            await ask(crew, question())
        with pytest.raises(NotBegun):
            crew.check()
        with pytest.raises(EngineFailed, match="no engine's process lives"):
            crew.check_alive()
    assert "giving up" in caplog.text


async def test_a_request_that_is_left_frees_its_slot(checkpoint: Checkpoint) -> None:
    async with running_crew(checkpoint, count=1) as crew:
        task = asyncio.create_task(ask(crew, LONG))
        await until(lambda: crew.processes[0].in_flight == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ask(crew, question())
        figures = await crew.figures()
        assert (figures.counters.cancelled, figures.running, figures.queued) == (
            1,
            0,
            0,
        )


async def test_a_deadline_is_kept_even_by_a_silent_process(
    checkpoint: Checkpoint,
) -> None:
    async with running_crew(checkpoint, count=1) as crew:
        loop = asyncio.get_running_loop()
        os.kill(crew.processes[0].pid, signal.SIGSTOP)
        with pytest.raises(DeadlineExceeded):
            await ask(crew, question(), deadline=loop.time() + 0.05)
        os.kill(crew.processes[0].pid, signal.SIGCONT)
        assert (await ask(crew, question())).finish is Finish.LENGTH


async def test_progress_is_told_in_order(checkpoint: Checkpoint) -> None:
    async with running_crew(checkpoint, count=1) as crew:
        told: list[Progress] = []
        model = await crew.model_for(question(), Asker())
        result = await model.answer(question(), Asker(), told.append)
    assert [len(one.tokens) for one in told] == sorted(
        {len(one.tokens) for one in told}
    )
    assert told
    assert all(result.text.startswith(one.text) for one in told)


async def test_a_new_checkpoint_takes_over_in_all_while_old_requests_finish(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    second = with_a_long_window(save_tiny(tmp_path / "second", seed=1))
    async with running_crew(checkpoint) as crew:
        crew._read = lambda: second
        old = crew.processes
        begun = asyncio.create_task(ask(crew, LONG, "a"))
        await until(lambda: old[0].in_flight == 1)
        assert await crew.reload()
        assert crew.model.checkpoint is second
        assert not set(map(id, old)) & set(map(id, crew.processes))
        assert (await begun).finish in (Finish.LENGTH, Finish.END)
        await until(lambda: not any(process.alive for process in old))
        figures = await crew.figures()
        assert figures.counters.finished == 5  # four warm-ups
        assert figures.restarts == {}
        assert not await crew.reload()  # it lies there unchanged
        (one, _), (other, _) = [
            (what(await ask(crew, question(), name)), name) for name in "ab"
        ]
        assert one == other


async def test_a_checkpoint_that_cannot_be_used_changes_nothing(
    checkpoint: Checkpoint,
) -> None:
    unfit = attrs.evolve(checkpoint, tensors={}, digest="unfit")
    async with running_crew(checkpoint) as crew:
        before = [process.pid for process in crew.processes]
        crew._read = lambda: unfit
        with pytest.raises(EngineFailed):
            await crew.reload()
        assert [process.pid for process in crew.processes] == before
        assert (await ask(crew, question())).finish is Finish.LENGTH


async def test_what_a_process_cannot_serve_is_told_at_the_start(
    checkpoint: Checkpoint,
) -> None:
    with pytest.raises(SettingsError, match="threads must be"):
        async with running_crew(checkpoint, runner="native", threads=10_000):
            pytest.fail("it started")


async def test_what_is_in_flight_is_told_why_it_ends(checkpoint: Checkpoint) -> None:
    async with running_crew(checkpoint) as crew:
        task = asyncio.create_task(ask(crew, LONG))
        await until(lambda: any(process.in_flight for process in crew.processes))
        crew.close(Draining, "the server has shut down")
        with pytest.raises(Draining, match="shut down"):
            await task


async def test_the_server_logs_what_its_processes_say(
    checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running_crew(checkpoint, count=1) as crew:
        broken = attrs.evolve(question(), wanted="secret")  # type: ignore[arg-type]
        with pytest.raises(TabwiseError, match="see the server's log") as caught:
            await ask(crew, broken)
        assert (caught.value.status, caught.value.code) == (500, "internal_error")
        await ask(crew, question())
        (record,) = [
            one for one in caplog.records if one.process == crew.processes[0].pid
        ]
    assert "AttributeError in an engine's process" in record.getMessage()
    assert "reader.py" in record.getMessage()
    assert "secret" not in record.getMessage()  # what was asked

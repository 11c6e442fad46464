"""Several backends as one: affinity, failover, hedging, circuit breaking."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from support.checkpoints import save_tiny
from support.scripted_backend import ScriptedBackend, scripted_backend
from tabwise_server.backends import pool as pool_module
from tabwise_server.backends.choose import open_backend
from tabwise_server.backends.http import Endpoint
from tabwise_server.backends.pool import Hedging, PoolBackend
from tabwise_server.backends.protocol import Backend, Status
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.bench.processes import Served, tabwise_serve
from tabwise_server.errors import (
    BackendUnavailable,
    BadRequest,
    DeadlineExceeded,
    Overloaded,
    Unauthorized,
)
from tabwise_server.settings import BackendSettings
from tabwise_server.wire import CompletionRequest

REQUEST = CompletionRequest(prefix="x = ", session="doc", deadline_ms=20_000)


@contextlib.asynccontextmanager
async def trio() -> AsyncIterator[dict[str, ScriptedBackend]]:
    """Three scripted backends by address, each answering with its address."""
    async with contextlib.AsyncExitStack() as stack:
        running = [await stack.enter_async_context(scripted_backend()) for _ in "123"]
        for one in running:
            one.answer = lambda _, url=one.url: url  # type: ignore[misc]
        yield {one.url: one for one in running}


@contextlib.asynccontextmanager
async def pool_of(
    urls: Iterable[str], hedge_ms: float = 60_000
) -> AsyncIterator[PoolBackend]:
    clients: dict[str, Backend] = {url: TabwiseBackend(Endpoint(url)) for url in urls}
    pool = PoolBackend(clients, hedge_ms)
    try:
        yield pool
    finally:
        await pool.close()


def names(pool: PoolBackend, session: str) -> list[str]:
    return [member.name for member in pool.order(session)]


async def test_a_session_stays_where_its_cache_is() -> None:
    async with trio() as scripted, pool_of(scripted) as pool:
        homes = {(await pool.complete(REQUEST)).text for _ in range(5)}
        assert homes == {names(pool, "doc")[0]}


def test_only_the_sessions_of_a_lost_member_move() -> None:
    three = PoolBackend(dict.fromkeys("abc"))  # type: ignore[arg-type]
    two = PoolBackend(dict.fromkeys("ac"))  # type: ignore[arg-type]
    before = {session: names(three, session)[0] for session in map(str, range(300))}
    assert all(60 < list(before.values()).count(name) < 140 for name in "abc")
    for session, home in before.items():
        after = names(two, session)[0]
        assert (after == home) is (home != "b")


async def test_a_refused_connection_goes_to_the_next() -> None:
    nobody = "http://127.0.0.1:9"
    async with trio() as scripted, pool_of([nobody, *scripted]) as pool:
        session = next(s for s in map(str, range(500)) if names(pool, s)[0] == nobody)
        second = names(pool, session)[1]
        request = CompletionRequest(prefix="x", session=session, deadline_ms=20_000)
        assert (await pool.complete(request)).text == second
        assert [member.name for member in pool.members if member.out] == [nobody]


async def test_a_full_house_is_left_for_the_next_without_being_taken_out() -> None:
    async with trio() as scripted, pool_of(scripted) as pool:
        home, second, _ = names(pool, "doc")
        scripted[home].status = 503
        assert (await pool.complete(REQUEST)).text == second
        assert not any(member.out for member in pool.members)
        for one in scripted.values():
            one.status = 503
        with pytest.raises(Overloaded):
            await pool.complete(REQUEST)


async def test_a_wrong_request_is_not_tried_elsewhere() -> None:
    async with trio() as scripted, pool_of(scripted) as pool:
        for one in scripted.values():
            one.status = 422
        with pytest.raises(BadRequest):
            await pool.complete(REQUEST)
        assert sum(len(one.requests) for one in scripted.values()) == 1


async def test_a_refused_key_is_told_until_it_is_taken() -> None:
    """The health of such a server is well, so that no other sign would come."""
    said: list[Status] = []
    async with scripted_backend() as one:
        pool = PoolBackend(
            {one.url: TabwiseBackend(Endpoint(one.url))}, on_status=said.append
        )
        one.status = 401
        with pytest.raises(Unauthorized):
            await pool.complete(REQUEST)
        assert said[-1].state == "offline"
        assert "check backend.api_key" in (said[-1].reason or "")
        one.status = 200
        await pool.complete(REQUEST)
        assert said[-1] == Status("ready")
        await pool.close()


async def test_a_slow_member_is_hedged_and_what_it_does_is_cancelled() -> None:
    async with trio() as scripted, pool_of(scripted, hedge_ms=20) as pool:
        home, second, _ = names(pool, "doc")
        scripted[home].gate.clear()
        assert (await pool.complete(REQUEST)).text == second
        await scripted[home].wait_for(lambda: scripted[home].cancelled == 1)


async def test_a_member_that_hangs_is_taken_out_and_back_once_it_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "FIRST_REST_S", 0.01)
    async with trio() as scripted, pool_of(scripted, hedge_ms=10) as pool:
        home = names(pool, "doc")[0]
        scripted[home].gate.clear()
        for _ in range(pool_module.FAILURES_TO_OPEN):
            await pool.complete(REQUEST)
        assert names(pool, "doc")[-1] == home  # the last to be tried
        scripted[home].gate.set()
        async with asyncio.timeout(30):
            while names(pool, "doc")[0] != home:  # noqa: ASYNC110  its own health check
                await asyncio.sleep(0.01)
        assert (await pool.complete(REQUEST)).text == home


async def test_when_nobody_answers_the_deadline_holds() -> None:
    async with trio() as scripted, pool_of(scripted, hedge_ms=10) as pool:
        for one in scripted.values():
            one.gate.clear()
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await pool.complete(CompletionRequest(prefix="x", deadline_ms=100))
        assert time.monotonic() - began < 5
        for one in scripted.values():
            await one.wait_for(lambda one=one: one.cancelled == len(one.requests))  # type: ignore[misc]


async def test_cancelling_cancels_every_attempt() -> None:
    async with trio() as scripted, pool_of(scripted, hedge_ms=10) as pool:
        first, second = (scripted[name] for name in names(pool, "doc")[:2])
        first.gate.clear()
        second.gate.clear()
        task = asyncio.create_task(pool.complete(REQUEST))
        await second.wait_for(lambda: len(second.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for one in (first, second):
            await one.wait_for(lambda one=one: one.cancelled == 1)  # type: ignore[misc]


async def test_hedging_never_doubles_the_load() -> None:
    hedging = Hedging(None)
    hedges = 0
    for _ in range(1_000):
        hedges += hedging.spend()
        hedging.observe(0.02)
    assert 100 <= hedges <= 110
    assert hedging.delay_s == pool_module.HEDGE_FLOOR_S


async def test_offline_is_told_once_and_ready_when_one_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "FIRST_REST_S", 0.01)
    seen: list[Status] = []
    async with scripted_backend() as one:
        one.status = 500
        backend = open_backend(BackendSettings(url=one.url), seen.append)
        await backend.start()
        with pytest.raises(BackendUnavailable):
            await backend.complete(REQUEST)
        assert [status.state for status in seen] == ["ready", "offline"]
        one.status = 200
        await backend.complete(REQUEST)
        assert seen[-1].state == "ready"
        await backend.close()


@contextlib.asynccontextmanager
async def three_processes(folder: Path) -> AsyncIterator[list[Served]]:
    """Three real backends on a tiny model."""
    tiny = str(save_tiny(folder / "tiny"))
    environment = {
        "TABWISE_STATE_DIR": str(folder / "state"),
        "TABWISE_CONFIG": str(folder / "tabwise.toml"),
    }
    (folder / "tabwise.toml").write_text("")
    flags = ["--checkpoint", tiny, "--threads", "1"]
    async with contextlib.AsyncExitStack() as stack:
        contexts = [tabwise_serve(flags, environment) for _ in "123"]
        yield list(await asyncio.gather(*map(stack.enter_async_context, contexts)))


async def test_killing_one_of_three_under_load_loses_no_request_past_its_deadline(
    tmp_path: Path,
) -> None:
    deadline_s = 15.0
    async with three_processes(tmp_path) as served:
        url = ",".join(one.url for one in served)
        backend = open_backend(BackendSettings(url=url))
        await backend.start()
        taken: list[float] = []
        killed = asyncio.Event()

        async def user(number: int) -> None:
            for turn in range(30):
                request = CompletionRequest(
                    prefix=f"x{number} = {turn}",
                    session=str(number),
                    deadline_ms=deadline_s * 1000,
                )
                began = time.monotonic()
                await backend.complete(request)
                taken.append(time.monotonic() - began)
                if len(taken) == 100:  # all are in the midst of it
                    served[0].process.kill()
                    killed.set()

        await asyncio.gather(*map(user, range(12)))
        assert killed.is_set()
        assert len(taken) == 12 * 30
        assert max(taken) < deadline_s
        await backend.close()

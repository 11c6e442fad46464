"""The cluster's nginx before three real backends: affinity, failures, restarts."""

import asyncio
import contextlib
import inspect
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import attrs
import pytest
import pytest_asyncio

from tabwise_server.backends.http import Endpoint
from tabwise_server.backends.protocol import Backend
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.capacity.fleet import Member, running_fleet, running_router
from tabwise_server.capacity.typists import Answer, Typing, summarise, type_all
from tabwise_server.metrics_text import read_metrics

SOURCE = inspect.getsource(asyncio.base_events) + inspect.getsource(inspect)
ALONE = ("--engines", "0", "--threads", "1")
FLAGS = (*ALONE, "--runner", "native", "--drain-s", "20", "--reuse-port")
# pauses long enough for one core to carry all of it
TYPING = Typing(users=20, keystrokes=10, pause_s=0.5, deadline_ms=30_000)
LASTING = attrs.evolve(TYPING, keystrokes=1_000)  # until it is enough

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")),
        reason="nginx is not installed (Debian: apt-get install nginx)",
    ),
]


@attrs.frozen
class House:
    """Three backends behind a router."""

    members: list[Member]
    url: str

    def client(self) -> Backend:
        return TabwiseBackend(Endpoint(self.url))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with contextlib.AsyncExitStack() as stack:
        members = await stack.enter_async_context(running_fleet(3, *FLAGS))
        urls = [member.url for member in members]
        url, _ = await stack.enter_async_context(running_router(urls))
        yield House(members, url)


async def answers_while(
    house: House, trouble: Callable[[], Awaitable[None]]
) -> list[Answer]:
    """All answers to a load that began before the trouble and went on after it."""
    enough = asyncio.Event()
    load = asyncio.create_task(type_all(house.client, SOURCE, LASTING, enough))
    await wait_for_requests(house, 40)
    await trouble()
    await wait_for_requests(house, 40)
    enough.set()
    return await load


async def wait_for_requests(house: House, count: int) -> None:
    """Return once the backends have answered `count` requests more than now."""
    enough = await answered(house) + count
    async with asyncio.timeout(60):
        while await answered(house) < enough:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)


async def answered(house: House) -> float:
    """Completions of all backends that run, by their own count."""
    running = [one for one in house.members if one.process.returncode is None]
    return sum([await completions_of(member.url) for member in running])


async def completions_of(url: str) -> float:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as answer:
        metrics = read_metrics(await answer.text())
    return metrics['code_completion_requests_total{status="success"}']


@pytest.mark.asyncio(loop_scope="module")
async def test_documents_stay_with_the_backend_that_knows_them(house: House) -> None:
    async with running_fleet(1, *FLAGS) as [alone]:
        one = summarise(
            await type_all(lambda: TabwiseBackend(Endpoint(alone.url)), SOURCE, TYPING)
        )
    three = summarise(await type_all(house.client, SOURCE, TYPING))
    print(f"one {one}\nthree {three}")
    assert (one.failed, three.failed) == ({}, {})
    assert three.cached >= one.cached - 0.05
    counts = [await completions_of(member.url) for member in house.members]
    assert min(counts) > 0


@pytest.mark.asyncio(loop_scope="module")
async def test_a_killed_backend_costs_nobody_an_answer(house: House) -> None:
    async def kill() -> None:
        await house.members[0].stop(signal.SIGKILL)

    answers = await answers_while(house, kill)
    await house.members[0].restart()
    assert summarise(answers).failed == {}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_drained_backend_costs_nobody_an_answer(house: House) -> None:
    async def drain() -> None:
        assert await house.members[1].stop() == 0

    answers = await answers_while(house, drain)
    await house.members[1].restart()
    assert summarise(answers).failed == {}


@pytest.mark.asyncio(loop_scope="module")
async def test_all_backends_restart_one_by_one_under_load_without_a_failure(
    house: House,
) -> None:
    async def restart() -> None:
        for member in house.members:
            await member.restart()

    answers = await answers_while(house, restart)
    print(summarise(answers))
    assert summarise(answers).failed == {}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_successor_takes_the_port_over_without_a_failure(house: House) -> None:
    member = house.members[0]
    before = member.process.pid

    async def hand_over() -> None:
        await member.hand_over(1.0)

    answers = await answers_while(house, hand_over)
    assert member.process.pid != before
    assert await completions_of(member.url) > 0
    assert summarise(answers).failed == {}


@pytest.mark.asyncio(loop_scope="module")
async def test_the_router_keeps_each_backends_own_figures_to_itself(
    house: House,
) -> None:
    async with aiohttp.ClientSession() as http:
        statuses = {}
        for path in ("/metrics", "/readyz", "/router/livez"):
            async with http.get(house.url + path) as answer:
                statuses[path] = answer.status
    assert statuses == {"/metrics": 404, "/readyz": 200, "/router/livez": 200}

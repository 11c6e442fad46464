"""The fault run, short; and that each of its checks can find what it looks for."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator

import pytest

from support.replies import answer, events, reply_server
from tabwise_server.bench.faults.house import Watch
from tabwise_server.bench.faults.line import (
    Line,
    NoAnswer,
    NotOneAnswer,
    StreamFailed,
    text_of_events,
)
from tabwise_server.bench.faults.outcomes import Kind, Ledger
from tabwise_server.bench.faults.people import Person
from tabwise_server.bench.faults.run import fault_run, settled, words
from tabwise_server.bench.users import Ask

BINARIES = "/usr/sbin:/usr/bin:/usr/local/bin"
OURS = "/v1/tabwise/complete"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not (shutil.which("nginx", path=BINARIES) and shutil.which("redis-server")),
    reason="needs nginx and redis-server (Debian: apt-get install nginx redis-server)",
)
async def test_people_type_for_three_minutes_while_things_break() -> None:
    # so many that some of them are sent to each backend, whatever their ports are; and
    # no more slots than are all in use before memory is looked at
    report = await fault_run(
        users=16, seconds=180, every_s=60, deadline_ms=30_000, stall_s=3, slots=16
    )
    print(words(report))
    assert report.faults == []
    assert report.verified >= 400
    assert min(report.restarts.values()) >= 1
    for what in (" ends", " hangs", "Redis is killed", "another takes over"):
        assert any(what in event for event in report.events), what
    for kind in ("left", "malformed", "oversize", "slow", "streamed"):
        assert any(name.startswith(f"{kind}, ") for name in report.counts), kind


async def ask(reply: bytes) -> tuple[int, bytes]:
    async with reply_server(reply) as server:
        line = Line("127.0.0.1", server.port)
        with contextlib.closing(line):
            found = await line.ask("/x", {}, b"{}")
        return found.status, found.body


async def test_an_answer_is_read_whole() -> None:
    assert await ask(answer({"a": 1})) == (200, b'{"a": 1}')
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert await ask(chunked) == (200, b"abcde")


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (answer({"a": 1}) * 2, NotOneAnswer),
        (answer({"a": 1}) + b"x", NotOneAnswer),
        (b"no HTTP at all\r\n\r\n", NotOneAnswer),
        (answer({"a": 1})[:-2], NoAnswer),
        (b"", NoAnswer),
    ],
)
async def test_anything_but_one_answer_is_found(
    reply: bytes, found: type[Exception]
) -> None:
    with pytest.raises(found):
        await ask(reply)


def test_a_stream_is_whole_only_with_its_end() -> None:
    body = events({"choices": [{"text": "a"}]}).partition(b"\r\n\r\n")[2]
    assert text_of_events(body) == "a"
    with pytest.raises(NotOneAnswer):
        text_of_events(body.replace(b"[DONE]", b"[DO"))
    with pytest.raises(StreamFailed):
        text_of_events(b'data: {"error": {"code": "x"}}\n\n')


def enter(ledger: Ledger, kind: Kind, status: int, text: str | None = None) -> None:
    with ledger.asked(kind, OURS, b"{}") as question:
        question.end = str(status)
        if text is not None:
            question.answer(text)
        elif kind == "malformed":
            question.right = status == 422


def test_too_many_failures_are_found() -> None:
    ledger = Ledger(deadline_s=10.0)
    for _ in range(999):
        enter(ledger, "plain", 200, "x")
    enter(ledger, "plain", 503)
    assert ledger.faults() == []
    enter(ledger, "plain", 503)
    assert len(ledger.faults()) == 1
    assert "503" in ledger.faults()[0]


def test_an_answer_after_its_deadline_is_none() -> None:
    ledger = Ledger(deadline_s=-1.0)
    enter(ledger, "plain", 200, "x")
    assert ledger.of("plain") == (0, 1)


def test_what_should_have_been_refused_is_found() -> None:
    ledger = Ledger(deadline_s=10.0)
    enter(ledger, "malformed", 422)
    assert ledger.faults() == []
    enter(ledger, "malformed", 200)
    assert "malformed was answered with 200" in ledger.faults()


def test_two_answers_to_one_question_are_found() -> None:
    ledger = Ledger(deadline_s=10.0)
    for text in ("x", "x", "y"):
        enter(ledger, "plain", 200, text)
    assert "the same request was answered in two ways" in ledger.faults()


def test_an_answer_that_a_quiet_server_would_not_give_is_found() -> None:
    ledger = Ledger(deadline_s=10.0)
    ledger.compare(OURS, "x", "x")
    assert ledger.faults() == []
    ledger.compare(OURS, "x", "y")
    assert len(ledger.faults()) == 1


@pytest.fixture
async def misled() -> AsyncIterator[tuple[Person, Ledger]]:
    """One whose every request is answered as another's."""
    reply = answer({"text": "x"}, X_Request_Id="somebody's")
    async with reply_server(reply) as server:
        ledger = Ledger(deadline_s=10.0)
        yield Person(0, server.url, "key", ledger, 10_000), ledger


async def test_an_answer_to_somebody_else_is_found(
    misled: tuple[Person, Ledger],
) -> None:
    person, ledger = misled
    for _ in range(9):  # of every kind, most of them plain
        await person._ask(Ask(at=0.0, cursor=50, after=60))
    assert any("was answered as somebody's" in fault for fault in ledger.faults())


def test_memory_that_grows_is_found() -> None:
    assert settled([50.0, 100.0, 100.0, 101.0]) == (100, 101)
    assert settled([float(n) for n in range(40)]) == (14.5, 34.5)
    watch = Watch()
    watch.remember(os.getpid())
    watch.cut(os.getpid())
    watch.remember(os.getpid())
    first, second = watch.lives()
    assert len(first) == len(second) == 1


async def test_one_who_leaves_closes_the_connection() -> None:
    async with reply_server(b"") as server:
        server.hold = True
        line = Line("127.0.0.1", server.port)
        await line.leave_after(0.01, "/x", {}, b"{}")
        async with asyncio.timeout(10):
            await server.left.acquire()

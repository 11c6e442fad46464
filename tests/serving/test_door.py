"""What is refused before HTTP is parsed, and that nothing else is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.backend import HeldRunner, RunningBackend, running_backend, until
from tabwise_server.serving import app
from tabwise_server.serving.admission.door import ANSWER, Door, owed_by

OURS = "/v1/tabwise/complete"
BODY = b'{"prefix": "x", "max_new_tokens": 3, "stop": "none"}'


def post(body: bytes = BODY, more: str = "", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    head = f"POST {OURS} HTTP/1.1\r\nHost: here\r\n{more}Content-Length: {length}"
    return f"{head}\r\n\r\n".encode() + body


@attrs.define
class Wire:
    """One connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0.02)  # so that each is received by itself

    async def status(self) -> int:
        """Of the next answer, which is read whole."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        await self.reader.readexactly(int(length))
        return int(head[9:12])


@contextlib.asynccontextmanager
async def connected(backend: RunningBackend) -> AsyncIterator[Wire]:
    port = int(backend.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(30):
            yield Wire(reader, writer)
    finally:
        writer.close()


def seen(backend: RunningBackend) -> int:
    """Requests that aiohttp has parsed."""
    server = backend.runner._server
    assert server is not None
    return server.requests_count


@contextlib.asynccontextmanager
async def full_house() -> AsyncIterator[tuple[RunningBackend, HeldRunner, Wire]]:
    """One place, and it is taken by the first until the runner is released."""
    runner = HeldRunner()
    async with running_backend(runner, max_queue=1) as backend:
        runner.hold()
        async with connected(backend) as first:
            await first.send(post())
            await until(lambda: backend.service.places.taken == 1)
            try:
                yield backend, runner, first
            finally:
                runner.release()
            assert await first.status() == 200


async def test_a_full_house_refuses_at_the_door_and_the_connection_lives_on() -> None:
    async with full_house() as (backend, runner, _), connected(backend) as wire:
        before = seen(backend)
        for _ in range(3):
            await wire.send(post())
            assert await wire.status() == 503
        assert seen(backend) == before
        label = 'tabwise_rejected_requests_total{reason="overloaded"}'
        assert await backend.metric(label) == 3
        assert await backend.metric('code_completion_requests_total{status="error"}')
        runner.release()
        await until(lambda: backend.service.places.taken == 0)
        await wire.send(post())
        assert await wire.status() == 200


async def test_both_ways_to_refuse_say_the_same() -> None:
    async with full_house() as (backend, _, _):
        answers = []
        for more in (
            "",
            "Connection: Keep-Alive\r\n",
            "Transfer-Encoding: chunked\r\n",
        ):
            before = seen(backend)
            body = b"0\r\n\r\n" if "chunked" in more else BODY
            sent = post(body, more)
            if "chunked" in more:
                sent = sent.replace(b"Content-Length: 5\r\n", b"")
            async with connected(backend) as wire:
                await wire.send(sent)
                head = await wire.reader.readuntil(b"\r\n\r\n")
                body = await wire.reader.readexactly(len(ANSWER.split(b"\r\n\r\n")[1]))
            answers.append((head[9:12], b"Retry-After: 1" in head, body))
            assert (seen(backend) == before) is ("chunked" not in more)
        assert len(set(answers)) == 1


async def test_what_comes_of_a_refused_body_is_no_request() -> None:
    body = b"x" * 50 + post() + b"y" * 50
    async with full_house() as (backend, runner, _), connected(backend) as wire:
        before = seen(backend)
        whole = post(body)
        head = whole.index(b"\r\n\r\n") + 4
        await wire.send(whole[: head + 50], whole[head + 50 : -50], whole[-50:])
        assert await wire.status() == 503
        runner.release()
        await until(lambda: backend.service.places.taken == 0)
        await wire.send(post())
        assert await wire.status() == 200
        assert seen(backend) == before + 1


async def test_the_end_of_a_refused_body_may_bring_the_next_request() -> None:
    async with full_house() as (backend, _, _), connected(backend) as wire:
        await wire.send(post()[:-9], post()[-9:] + post())
        assert [await wire.status() for _ in range(2)] == [503, 503]


async def test_answers_come_in_the_order_of_their_requests() -> None:
    """Behind a request that is being answered, and two at once."""
    async with full_house() as (backend, runner, first):
        await first.send(post())
        async with connected(backend) as other:
            await other.send(post() + post())
            assert [await other.status() for _ in range(2)] == [503, 503]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await first.reader.readexactly(1)
        runner.release()
        assert await first.status() == 200  # the second's is read at the end


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n",
        post(more="Connection: close\r\n"),
        post(more="Expect: 100-continue\r\n"),
        post().replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(more="Content-Length: 52\r\n"),
        post().replace(b"Length: 5", b"Length: +5"),
        post(length=5_000_000),
        b"POST " + b"x" * 100,
        b"nonsense\r\n\r\n",
    ],
)
async def test_what_the_door_cannot_judge_goes_in(sent: bytes) -> None:
    async with full_house() as (backend, _, _), connected(backend) as wire:
        await wire.send(sent)
        if sent.endswith(b"x" * 100):
            await wire.send(b" HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n")
        answer = await wire.reader.read(65_536)
        assert answer.startswith(b"HTTP/1.")
        assert ANSWER not in answer


async def test_now_and_then_a_request_goes_in_so_that_its_connection_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "IDLE_S", 1.0)
    async with full_house() as (backend, _, _), connected(backend) as wire:
        before = seen(backend)
        for _ in range(20):
            await asyncio.sleep(0.1)
            await wire.send(post())
            assert await wire.status() == 503
        assert before < seen(backend) < before + 8


REQUESTS = st.builds(
    post, st.binary(max_size=40), st.sampled_from(["", "X-A: b\r\n"])
) | st.just(b"GET /livez HTTP/1.1\r\n\r\n")


class Inner(asyncio.Protocol):
    """A handler that is always waiting, and what came to it."""

    def __init__(self) -> None:
        self.came = b""
        self._waiter = self

    def done(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        self.came += data


class Outer(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.answers = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert data == ANSWER
        self.answers += 1

    def get_write_buffer_size(self) -> int:
        return 0


class Full:
    """A house in which there is no room, by turns."""

    def __init__(self, full: list[bool]) -> None:
        self._turns = full
        self.refused = 0

    @property
    def full(self) -> bool:
        return bool(self._turns and self._turns.pop())

    def count(self) -> None:
        self.refused += 1


@given(st.lists(REQUESTS, max_size=6), st.data())
def test_however_it_is_cut_each_request_goes_in_whole_or_not_at_all(
    requests: list[bytes], data: st.DataObject
) -> None:
    """By someone who waits for each answer, as those do that keep to HTTP."""
    inner, outer = Inner(), Outer()
    house = Full(data.draw(st.lists(st.booleans(), min_size=20, max_size=20)))
    door = Door(inner, house, most_bytes=1_000, within_s=10)  # type: ignore[arg-type]
    door.connection_made(outer)
    gone_in = b""
    for sent in requests:
        cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=3)))
        refused = house.refused
        for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            door.data_received(sent[a:b])
        assert house.refused - refused in (0, 1)
        if house.refused == refused:
            gone_in += sent
    assert inner.came == gone_in
    assert outer.answers == house.refused


@pytest.mark.parametrize(
    ("data", "owed"),
    [
        (post(), 0),
        (post()[:-3], 3),
        (post() + b"P", None),
        (post()[:40], None),
        (post(more="content-LENGTH:3\r\n"), None),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
    ],
)
def test_how_much_of_a_request_is_to_come(data: bytes, owed: int | None) -> None:
    assert owed_by(data) == owed

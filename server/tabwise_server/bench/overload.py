"""What a backend does when ten times more is asked of it than it can do.

How much it can do is found by connections that ask again as soon as they are answered.
Then requests come on a clock, at once and a half, three times and `times` that rate.
All are typing people's requests (`load.py`). A request that finds no room must be told
so at once, and as many must be served as without those that find none. Who is served
once in ten keystrokes has ten times as much text that is new, so that most is found
for each rate by connections that leave out as many of each person's requests.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import itertools
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from tabwise_server.bench.load import slots_for
from tabwise_server.bench.machine import (
    cpu_seconds,
    describe_machine,
    family,
    sum_over,
)
from tabwise_server.bench.processes import Served, tabwise_serve
from tabwise_server.bench.users import asks, sources
from tabwise_server.bench.wire_client import HttpLine
from tabwise_server.capacity.fleet import UNCACHED
from tabwise_server.errors import BadRequest
from tabwise_server.lsp.session import options_of
from tabwise_server.settings import LspSettings
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.prompt import build_request
from tabwise_server.wire import unstructure

USERS = 64
AT_ONCE = 120  # connections that find the most that can be served, and fill the house
WARM_S = 3.0
LOWER = (1.5, 3.0)  # times what it can serve
MOST_LINES = 2_000  # connections of the generator
DEADLINE_MS = 60_000.0
SOON_MS = 10.0  # in which to be told that there is no room
# Statuses that say that there was no room.
NO_ROOM = (429, 503)


@attrs.frozen(kw_only=True)
class Flood:
    """One rate. Requests a second; milliseconds from sending to the whole answer."""

    asked_per_s: float
    served_per_s: float
    most_per_s: float  # of requests as far apart, with nobody refused
    refused_per_s: float
    failed_per_s: float
    served_p50_ms: float
    refused_p50_ms: float
    refused_p99_ms: float
    refused_max_ms: float
    refused_soon: float  # share within SOON_MS
    server_cpu: float | None  # of one core
    generator_cpu: float

    @property
    def kept(self) -> float:
        """Share of the most that was served."""
        return self.served_per_s / self.most_per_s if self.most_per_s else 0.0


@attrs.frozen(kw_only=True)
class OverloadReport:
    floods: list[Flood]
    machine: str


@attrs.define
class Tally:
    """Latencies in seconds by status, of answers that came between `begin` and `end`: a
    house that fills, or empties, serves at another rate. A connection that failed has
    status 0."""

    begin: float
    end: float
    latencies: dict[int, list[float]] = attrs.Factory(lambda: defaultdict(list))

    def add(self, status: int, sent: float, answered: float) -> None:
        if self.begin <= answered <= self.end:
            self.latencies[status].append(answered - sent)

    def per_s(self, *statuses: int) -> float:
        count = sum(len(self.latencies[status]) for status in statuses)
        return count / (self.end - self.begin)

    def sorted(self, *statuses: int) -> list[float]:
        return sorted(itertools.chain(*(self.latencies[s] for s in statuses)))


async def overload(times: float, seconds: float, seed: int = 1) -> OverloadReport:
    """Measure a server of its own."""
    flags = ["--slots", str(slots_for(USERS))]
    async with tabwise_serve(flags, UNCACHED) as served:
        people = People(seed)
        most = (await _saturate(served.url, people, 1, seconds)).per_s(200)
        floods = []
        for rate in sorted({*LOWER, times}):
            floods.append(await _measured(served, people, most * rate, seconds))
            print(row(floods[-1]), flush=True)
    return OverloadReport(floods=floods, machine=describe_machine())


async def _measured(
    served: Served, people: People, per_s: float, seconds: float
) -> Flood:
    bodies = [people.next() for _ in range(round(per_s * (WARM_S + seconds)))]
    pids = family(served.pid)
    ours, theirs = time.process_time(), sum_over(cpu_seconds, pids)
    began = time.monotonic()
    tally = await _flood(served.url, bodies, per_s)
    took_s = time.monotonic() - began
    theirs_after = sum_over(cpu_seconds, pids)
    # of each person one request in so many was served: as far apart as in the flood,
    # what is the most?
    apart = max(1, round(per_s / max(1.0, tally.per_s(200))))
    most = (await _saturate(served.url, people, apart, seconds)).per_s(200)
    refused, answered = tally.sorted(*NO_ROOM), tally.sorted(200)
    failed = [s for s in tally.latencies if s not in (200, *NO_ROOM)]
    return Flood(
        asked_per_s=round(per_s, 1),
        served_per_s=round(tally.per_s(200), 1),
        most_per_s=round(most, 1),
        refused_per_s=round(tally.per_s(*NO_ROOM), 1),
        failed_per_s=round(tally.per_s(*failed), 1),
        served_p50_ms=_ms(answered, 0.5),
        refused_p50_ms=_ms(refused, 0.5),
        refused_p99_ms=_ms(refused, 0.99),
        refused_max_ms=_ms(refused, 1.0),
        refused_soon=_share_within(refused, SOON_MS / 1000),
        server_cpu=None
        if theirs is None or theirs_after is None
        else round((theirs_after - theirs) / took_s, 2),
        generator_cpu=round((time.process_time() - ours) / took_s, 2),
    )


class People:
    """Whose turn it is to ask, and what."""

    def __init__(self, seed: int) -> None:
        self._options = attrs.evolve(options_of(LspSettings()), deadline_ms=DEADLINE_MS)
        self._typing = [
            (number, text, asks(text, math.inf, random.Random(f"{seed}:{number}")))
            for number, text in enumerate(sources(USERS))
        ]
        self._turns = itertools.cycle(self._typing)

    def next(self, apart: int = 1) -> bytes:
        """The next person's request, so many after their last one."""
        number, text, typing = next(self._turns)
        ask = next(itertools.islice(typing, apart - 1, None))
        place = Place(
            prefix=text[: ask.cursor], suffix=text[ask.after :], language="python"
        )
        request = build_request(place, self._options, f"file:///overload/{number}.py")
        return json.dumps(unstructure(request)).encode()


async def _saturate(url: str, people: People, apart: int, seconds: float) -> Tally:
    """Ask on AT_ONCE connections, on each as soon as it is answered."""
    begin = time.monotonic() + WARM_S
    tally = Tally(begin, begin + seconds)

    async def ask(line: HttpLine) -> None:
        while time.monotonic() < tally.end:
            await _post(line, people.next(apart), tally)
        line.close()

    await asyncio.gather(*(ask(line) for line in _lines(url, AT_ONCE)))
    return tally


async def _flood(url: str, bodies: Sequence[bytes], per_s: float) -> Tally:
    """Ask `per_s` times a second on a clock, whatever the server does. A request for
    which no connection is left counts as one that failed."""
    idle = _lines(url, MOST_LINES)
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()
    began = loop.time()
    tally = Tally(began + WARM_S, began + len(bodies) / per_s)

    async def ask(body: bytes) -> None:
        line = idle.pop()
        await _post(line, body, tally)
        idle.append(line)

    for number, body in enumerate(bodies):
        await asyncio.sleep(began + number / per_s - loop.time())
        if not idle:
            tally.add(0, loop.time(), loop.time())
            continue
        task = asyncio.create_task(ask(body))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    for line in idle:
        line.close()
    return tally


async def _post(line: HttpLine, body: bytes, tally: Tally) -> None:
    sent = time.monotonic()
    try:
        status, _ = await line.post("/v1/tabwise/complete", body)
    except OSError:
        status = 0
    tally.add(status, sent, time.monotonic())


def _lines(url: str, count: int) -> list[HttpLine]:
    parts = urlsplit(url)
    return [HttpLine(parts.hostname or "", parts.port or 80) for _ in range(count)]


def _ms(ordered: Sequence[float], share: float) -> float:
    """A quantile; 0.0 of none."""
    if not ordered:
        return 0.0
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000, 2)


def _share_within(ordered: Sequence[float], most: float) -> float:
    """Of latencies, those of at most `most`; 1.0 of none."""
    if not ordered:
        return 1.0
    return round(bisect.bisect_right(ordered, most) / len(ordered), 4)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--times", type=float, default=10.0, help="what it can serve is asked for"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of each part")
    parser.add_argument("--out", type=Path, help="write JSON here")


def run(arguments: argparse.Namespace) -> int:
    if not (1 <= arguments.times <= 100 and 1 <= arguments.seconds <= 600):
        raise BadRequest("times must be 1..100 and seconds 1..600")
    print(HEADER, flush=True)
    report = asyncio.run(overload(arguments.times, arguments.seconds))
    print(report.machine)
    if arguments.out:
        text = json.dumps(attrs.asdict(report), indent=1)
        arguments.out.write_text(text, encoding="utf-8")
    return 0


HEADER = (
    "asked/s  served/s  of the most  refused/s  failed/s  served p50  refused p50"
    "    p99    max ms  in 10 ms  server CPU  generator CPU"
)


def row(f: Flood) -> str:
    """One line under HEADER."""
    return (
        f"{f.asked_per_s:>7}{f.served_per_s:>10}{f.kept:>13.2f}{f.refused_per_s:>11}"
        f"{f.failed_per_s:>10}{f.served_p50_ms:>12}{f.refused_p50_ms:>13}"
        f"{f.refused_p99_ms:>7}{f.refused_max_ms:>10}{f.refused_soon:>10.3f}"
        f"{f.server_cpu or '-':>12}{f.generator_cpu:>15}"
    )

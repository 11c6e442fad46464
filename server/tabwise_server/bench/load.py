"""Many typing users against real `tabwise serve`s, on this machine.

Open loop: every request has its time on a schedule made beforehand, and its latency
counts from that time, whatever the server or this generator were doing. The next
keystroke cancels what is not yet answered, as an editor does. A cancelled request's
latency is not known, only that it is more than its age; leaving those out would make a
slow server look fast; see `outcomes.quantile`. As behind our language server, nobody is
asked while what is typed continues what is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from tabwise_server.bench.curve import (
    GOAL_MS,
    LoadReport,
    draw,
    require_matplotlib,
    users_at_goal,
)
from tabwise_server.bench.machine import (
    cpu_seconds,
    describe_machine,
    family,
    resident_mb,
    sum_over,
)
from tabwise_server.bench.outcomes import Kind, Outcome, quantile
from tabwise_server.bench.processes import Served, tabwise_serve
from tabwise_server.bench.users import Ask, asks, sources
from tabwise_server.bench.wire_client import HttpLine
from tabwise_server.errors import BadRequest
from tabwise_server.lsp.session import options_of
from tabwise_server.settings import LspSettings
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.prompt import build_request
from tabwise_server.wire import unstructure

logger = logging.getLogger(__name__)

WARM_S = 20.0  # before what is counted: each file is read for the first time
LAST_S = 2.0  # for the last answers
MAX_USERS, MAX_SECONDS, MAX_BACKENDS = 2_000, 600.0, 64
SEARCH_SLOTS = 64


async def measure(
    users: int, seconds: float, seed: int = 1, backends: int = 1
) -> LoadReport:
    """Measure `users` people for `seconds`, on servers of its own; where there are
    several, each computes itself, on one thread."""
    flags = ["--slots", str(slots_for(math.ceil(users / backends)))]
    if backends > 1:
        flags += ["--engines", "0", "--threads", "1"]
    async with contextlib.AsyncExitStack() as stack:
        fleet = [
            await stack.enter_async_context(tabwise_serve(flags))
            for _ in range(backends)
        ]
        return await load(fleet, users, seconds, seed)


def slots_for(users: int) -> int:
    """One for each user's file, and some for the lines that are being searched."""
    return users + SEARCH_SLOTS


async def load(
    fleet: Sequence[Served], users: int, seconds: float, seed: int
) -> LoadReport:
    """Drive running servers, to which the users are dealt out; the first WARM_S are not
    counted."""
    texts = sources(users)
    loop = asyncio.get_running_loop()
    begins = loop.time() + 0.5
    people = [
        User(served.url, text, begins, list(_schedule(text, seconds, seed, n)))
        for n, (text, served) in enumerate(zip(texts, cycle(fleet), strict=False))
    ]
    running = [asyncio.create_task(person.run()) for person in people]
    pids = [pid for served in fleet for pid in family(served.pid)]
    await asyncio.sleep(begins + WARM_S - loop.time())
    ours, theirs = time.process_time(), sum_over(cpu_seconds, pids)
    await asyncio.sleep(begins + WARM_S + seconds - loop.time())
    ours = time.process_time() - ours
    theirs_after = sum_over(cpu_seconds, pids)
    await asyncio.gather(*running)
    megabytes = sum_over(resident_mb, pids)
    outcomes = [one for person in people for one in person.outcomes]
    return summarise(
        outcomes,
        users=users,
        seconds=seconds,
        from_memory=sum(person.from_memory for person in people),
        generator_cpu=round(ours / seconds, 2),
        server_cpu_s=None
        if theirs is None or theirs_after is None
        else theirs_after - theirs,
        server_mb=megabytes and round(megabytes, 1),
        machine=describe_machine(),
    )


def _schedule(text: str, seconds: float, seed: int, number: int) -> list[Ask]:
    rng = random.Random(f"{seed}:{number}")
    return list(asks(text, WARM_S + seconds, rng))


@attrs.frozen
class Shown:
    """What stands at the cursor since the last answer: nothing if that was unsure."""

    cursor: int
    text: str

    def continued(self, file: str, cursor: int) -> bool:
        """Whether what was typed since is its beginning, so that nobody is asked."""
        typed = file[self.cursor : cursor]
        return len(typed) < len(self.text) and self.text.startswith(typed)


class User:
    """One person with one file and one connection."""

    def __init__(
        self, url: str, text: str, begins: float, schedule: Sequence[Ask]
    ) -> None:
        """begins: in the loop's time."""
        parts = urlsplit(url)
        self._line = HttpLine(parts.hostname or "", parts.port or 80)
        self._text = text
        self._begins = begins
        self._schedule = schedule
        self._options = options_of(LspSettings())
        self._session = f"file:///load/{id(self)}.py"
        self._asked: asyncio.Task[None] | None = None
        self._shown = Shown(0, "")
        self.outcomes: list[Outcome] = []
        self.from_memory = 0

    async def run(self) -> None:
        """Ask as scheduled; whatever is not answered by the next time is cancelled."""
        loop = asyncio.get_running_loop()
        for ask in self._schedule:
            await asyncio.sleep(self._begins + ask.at - loop.time())
            await self._leave()
            if self._shown.continued(self._text, ask.cursor):
                self.from_memory += ask.at >= WARM_S
            else:
                self._asked = asyncio.create_task(self._ask(ask))
        if self._asked is not None:
            await asyncio.wait({self._asked}, timeout=LAST_S)
        await self._leave()
        self._line.close()

    async def _leave(self) -> None:
        """Cancel what is on its way."""
        if self._asked is not None and self._asked.cancel():
            await asyncio.wait({self._asked})

    async def _ask(self, ask: Ask) -> None:
        """One request, and what became of it."""
        loop = asyncio.get_running_loop()
        kind: Kind = "failed"
        try:
            body = self._body(ask)
            status, answer = await self._line.post("/v1/tabwise/complete", body)
            kind = "answered" if status == 200 else "failed"
            self._shown = Shown(ask.cursor, json.loads(answer).get("text", ""))
        except asyncio.CancelledError:
            kind = "cancelled"
        except OSError as error:
            logger.info("a connection failed: %s", error)
        finally:
            if ask.at >= WARM_S:
                age_s = loop.time() - self._begins - ask.at
                self.outcomes.append(Outcome(age_s, kind))

    def _body(self, ask: Ask) -> bytes:
        place = Place(
            prefix=self._text[: ask.cursor],
            suffix=self._text[ask.after :],
            language="python",
        )
        request = build_request(place, self._options, self._session)
        return json.dumps(unstructure(request)).encode()


def summarise(
    outcomes: Sequence[Outcome],
    seconds: float,
    server_cpu_s: float | None,
    **known: Any,
) -> LoadReport:
    cpu = cpu_ms = None
    if server_cpu_s is not None:
        cpu = round(server_cpu_s / seconds, 2)
        cpu_ms = round(server_cpu_s / max(len(outcomes), 1) * 1000, 2)
    kinds = Counter(outcome.kind for outcome in outcomes)
    p50, p95, p99 = (quantile(outcomes, share) for share in (0.5, 0.95, 0.99))
    return LoadReport(
        seconds=seconds,
        requests=len(outcomes),
        answered=kinds["answered"],
        cancelled=kinds["cancelled"],
        errors=kinds["failed"],
        served_per_s=round(kinds["answered"] / seconds, 1),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        server_cpu=cpu,
        server_cpu_ms_per_request=cpu_ms,
        **known,
    )


def configure(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--users", type=int, default=100, help="how many type")
    group.add_argument(
        "--curve", metavar="N,N,...", help="one measurement for each number; draws it"
    )
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="counted time of each measurement"
    )
    parser.add_argument("--seed", type=int, default=1, help="of everybody's typing")
    parser.add_argument(
        "--backends",
        type=int,
        default=1,
        help="processes that share the users; several have one thread each",
    )
    parser.add_argument("--out", type=Path, help="write JSON here, PNG beside it")


def run(arguments: argparse.Namespace) -> int:
    counts = [arguments.users]
    if arguments.curve:
        counts = [int(n) for n in arguments.curve.split(",")]
    if not all(1 <= n <= MAX_USERS for n in counts):
        raise BadRequest(f"users must be 1..{MAX_USERS}, got {counts}")
    if not 0 < arguments.seconds <= MAX_SECONDS:
        raise BadRequest(
            f"seconds must be 0..{MAX_SECONDS:g}, got {arguments.seconds:g}"
        )
    if not 1 <= arguments.backends <= MAX_BACKENDS:
        raise BadRequest(
            f"backends must be 1..{MAX_BACKENDS}, got {arguments.backends}"
        )
    if arguments.curve and arguments.out:
        require_matplotlib()
    reports = []
    print(HEADER, flush=True)
    for count in counts:
        report = asyncio.run(
            measure(count, arguments.seconds, arguments.seed, arguments.backends)
        )
        reports.append(report)
        print(row(report), flush=True)
    limit = users_at_goal(reports)
    if arguments.curve:
        print(f"p95 passes {GOAL_MS:g} ms at {limit or 'more'} users")
    print(reports[0].machine)
    if arguments.out:
        found = {"reports": [attrs.asdict(r) for r in reports], "users_at_goal": limit}
        arguments.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
        if arguments.curve:
            draw(reports, limit, arguments.out.with_suffix(".png"))
    return 0


HEADER = (
    "users  requests  from memory  served/s    p50    p95    p99 ms  cancelled  "
    "errors  server CPU  ms each  generator CPU  server MB"
)


def row(r: LoadReport) -> str:
    """One line under HEADER; "-" for what was never reached or cannot be told."""
    times = "".join(f"{ms or '-':>7}" for ms in (r.p50_ms, r.p95_ms, r.p99_ms))
    return (
        f"{r.users:>5}{r.requests:>10}{r.from_memory:>13}{r.served_per_s:>10}{times}   "
        f"{r.cancelled:>9}{r.errors:>8}{r.server_cpu or '-':>12}"
        f"{r.server_cpu_ms_per_request or '-':>9}"
        f"{r.generator_cpu:>15}{r.server_mb or '-':>11}"
    )

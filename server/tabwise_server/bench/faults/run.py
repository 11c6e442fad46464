"""`tabwise bench faults`: people type while things break, and nobody may notice.

Two backends behind nginx, a Redis, several keys. Of the requests 20 % are left by
their clients, 5 % are malformed, 2 % too large, 2 % read slowly, 6 % streamed. In turn,
a third of --every-s apart: an engine ends (each third time it hangs), Redis is killed
and started again, a backend is told to leave while the other takes over.

Must hold: every request gets exactly one answer; 99.9 % of the well-formed ones succeed
within their deadline; memory is flat; no answer is another request's. The last by three
checks: the request's id comes back, the same question is never answered in two ways,
and a sample of the answers is what a quiet server of its own says afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from tabwise_server.bench.faults.house import (
    ENGINES_EVERY_S,
    House,
    Watch,
    running_house,
)
from tabwise_server.bench.faults.line import Line, text_of_events
from tabwise_server.bench.faults.outcomes import Ledger
from tabwise_server.bench.faults.people import OPENAI, people
from tabwise_server.bench.load import slots_for
from tabwise_server.bench.machine import describe_machine
from tabwise_server.bench.processes import tabwise_serve
from tabwise_server.capacity.fleet import UNCACHED
from tabwise_server.errors import BadRequest
from tabwise_server.serving.engine.engines import RESTART_REASONS

# A process' memory, once settled: what it may differ by, as a share and in megabytes.
FLAT_SHARE, FLAT_MB = 0.10, 16.0
FEWEST_SAMPLES = 12
DEADLINE_MS, STALL_S = 2_000.0, 1.0


@attrs.frozen(kw_only=True)
class FaultsReport:
    """counts: requests by kind and what became of them. faults: none if all is well."""

    users: int
    minutes: float
    requests: int
    well_formed: int
    succeeded: int
    counts: dict[str, int]
    verified: int
    memory_mb: list[tuple[float, float]]  # of each process: settled, and at last
    restarts: dict[str, int]  # engines that were replaced, by reason
    events: list[str]
    faults: list[str]
    machine: str


async def fault_run(
    users: int,
    seconds: float,
    every_s: float,
    deadline_ms: float,
    stall_s: float,
    slots: int | None = None,
) -> FaultsReport:
    """slots: of each backend, by default as `bench load` has them; a short run takes
    fewer, since memory is flat only once each has been used. Raises FleetError where
    nginx or Redis is missing."""
    ledger, watch = Ledger(deadline_ms / 1000), Watch()
    environment = {"TABWISE_SERVE_STALL_S": str(stall_s)}
    slots = slots or slots_for(users)
    async with running_house(slots, environment) as house:
        suffering = asyncio.create_task(house.suffer(every_s))
        watching = asyncio.create_task(watch.look(house))
        crowd = people(users, house.url, house.keys, ledger, deadline_ms)
        await asyncio.gather(*(person.run(seconds) for person in crowd))
        for task in (suffering, watching):
            task.cancel()
        ends = await asyncio.gather(suffering, watching, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end  # what breaks things must not break
    verified = await _verify(ledger)
    return _report(ledger, watch, house, users, seconds, verified)


async def _verify(ledger: Ledger) -> int:
    """Ask a quiet server what the sample was asked; how many there were."""
    async with tabwise_serve((), UNCACHED) as served:
        parts = urlsplit(served.url)
        line = Line(parts.hostname or "", parts.port or 80)
        for path, body, text in ledger.sample:
            reply = await line.ask(path, {}, _without_deadline(body))
            again = (
                text_of_events(reply.body)
                if path == OPENAI
                else str(json.loads(reply.body)["text"])
            )
            ledger.compare(path, text, again)
        line.close()
    return len(ledger.sample)


def _without_deadline(body: bytes) -> bytes:
    asked = json.loads(body)
    asked.pop("deadline_ms", None)
    return json.dumps(asked).encode()


def _report(
    ledger: Ledger,
    watch: Watch,
    house: House,
    users: int,
    seconds: float,
    verified: int,
) -> FaultsReport:
    succeeded, well_formed = ledger.of("plain", "streamed")
    lives = [
        settled(samples) for samples in watch.lives() if len(samples) >= FEWEST_SAMPLES
    ]
    grown = [life for life in lives if life[1] > life[0] * (1 + FLAT_SHARE) + FLAT_MB]
    faults = ledger.faults()
    faults += [f"memory grew from {a:g} to {b:g} MB" for a, b in grown]
    return FaultsReport(
        users=users,
        minutes=round(seconds / 60, 1),
        requests=sum(ledger.counts.values()),
        well_formed=well_formed,
        succeeded=succeeded,
        counts={f"{k}, {end}": n for (k, end), n in sorted(ledger.counts.items())},
        verified=verified,
        memory_mb=lives,
        restarts={
            reason: int(sum(n for (_, r), n in watch.restarts.items() if r == reason))
            for reason in RESTART_REASONS
        },
        events=house.events,
        faults=faults,
        machine=describe_machine(),
    )


def settled(samples: Sequence[float]) -> tuple[float, float]:
    """Medians of the second and of the last quarter."""
    quarter = len(samples) // 4
    first = statistics.median(samples[quarter : 2 * quarter])
    return first, statistics.median(samples[-quarter:])


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--users", type=int, default=100, help="how many type")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument(
        "--every-s",
        type=float,
        default=ENGINES_EVERY_S,
        help="in which an engine, Redis and a backend break once each, in seconds",
    )
    parser.add_argument(
        "--deadline-ms",
        type=float,
        default=DEADLINE_MS,
        help="of a well-formed request",
    )
    parser.add_argument(
        "--stall-s",
        type=float,
        default=STALL_S,
        help="after which an engine hangs: half a deadline, so that others can answer",
    )
    parser.add_argument(
        "--slots", type=int, help="of each backend; fewer for a short run"
    )
    parser.add_argument("--out", type=Path, help="write JSON here")


def run(arguments: argparse.Namespace) -> int:
    if not (1 <= arguments.users <= 1_000 and 0 < arguments.minutes <= 240):
        raise BadRequest("users must be 1..1000 and minutes 0..240")
    if arguments.slots is not None and not 1 <= arguments.slots <= 1_000:
        raise BadRequest(f"--slots must be 1..1000, got {arguments.slots}")
    report = asyncio.run(
        fault_run(
            arguments.users,
            arguments.minutes * 60,
            arguments.every_s,
            arguments.deadline_ms,
            arguments.stall_s,
            arguments.slots,
        )
    )
    print(words(report))
    if arguments.out:
        text = json.dumps(attrs.asdict(report), indent=1)
        arguments.out.write_text(text, encoding="utf-8")
    return 1 if report.faults else 0


def words(report: FaultsReport) -> str:
    """The report for people."""
    share = report.succeeded / max(report.well_formed, 1)
    lines = [
        f"{report.users} users, {report.minutes:g} minutes: {report.requests} requests",
        f"well-formed: {report.well_formed}, {share:.5%} answered in time",
        f"answers compared with a quiet server's: {report.verified}",
        *(f"  {count:>8} {what}" for what, count in report.counts.items()),
        *(
            f"memory, MB: {first:g} settled, {last:g} at last"
            for first, last in report.memory_mb
        ),
        f"engines replaced: {report.restarts}",
        *(f"event: {event}" for event in report.events),
        *(f"FAULT: {fault}" for fault in report.faults),
        report.machine,
    ]
    return "\n".join(lines)

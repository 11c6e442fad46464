"""Whether the backend grows: its memory while people type for a long time."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import attrs

from tabwise_server.bench.curve import LoadReport
from tabwise_server.bench.load import HEADER, load, row, slots_for
from tabwise_server.bench.machine import family, resident_mb, sum_over
from tabwise_server.bench.processes import tabwise_serve
from tabwise_server.errors import BadRequest
from tabwise_server.serving.engine.loading import DAEMON_SLOTS

SAMPLES = 60
SETTLED = 1 / 3  # of the time; slots are touched for the first time until then


@attrs.frozen(kw_only=True)
class SoakReport:
    """samples: (seconds, megabytes). slope: megabytes an hour, of the settled part."""

    load: LoadReport
    samples: Sequence[tuple[float, float]]
    slope_mb_per_hour: float


async def soak(users: int, seconds: float, daemon: bool = False) -> SoakReport:
    """Drive a server of its own for `seconds`, looking at its memory on the way.

    daemon: it keeps as much as one person's does, whose files the users' are.
    """
    own = ["--engines", "0", "--slots", str(DAEMON_SLOTS)]
    flags = own if daemon else ["--slots", str(slots_for(users))]
    async with tabwise_serve(flags) as served:
        watching = asyncio.create_task(_watch(served.pid, seconds / SAMPLES))
        report = await load([served], users, seconds, seed=1)
        watching.cancel()
        samples = await watching
    return SoakReport(load=report, samples=samples, slope_mb_per_hour=slope(samples))


async def _watch(pid: int, every_s: float) -> list[tuple[float, float]]:
    """Memory now and again, until cancelled."""
    loop = asyncio.get_running_loop()
    began, samples = loop.time(), []
    try:
        while True:
            megabytes = sum_over(resident_mb, family(pid))
            if megabytes is not None:
                samples.append((round(loop.time() - began, 1), round(megabytes, 1)))
            await asyncio.sleep(every_s)
    except asyncio.CancelledError:
        return samples


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Megabytes an hour by least squares, once settled; 0.0 of fewer than two."""
    if not samples:
        return 0.0
    settled = [s for s in samples if s[0] >= SETTLED * samples[-1][0]]
    mean_t = sum(t for t, _ in settled) / len(settled)
    mean_m = sum(m for _, m in settled) / len(settled)
    spread = sum((t - mean_t) ** 2 for t, _ in settled)
    if not spread:
        return 0.0
    rise = sum((t - mean_t) * (m - mean_m) for t, m in settled) / spread
    return round(rise * 3600, 2)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--users", type=int, default=20, help="how many type")
    parser.add_argument(
        "--daemon", action="store_true", help="they are one person's files, in a daemon"
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, help="write JSON here")


def run(arguments: argparse.Namespace) -> int:
    if not 0 < arguments.minutes <= 240:
        raise BadRequest(f"minutes must be 0..240, got {arguments.minutes:g}")
    seconds = arguments.minutes * 60
    report = asyncio.run(soak(arguments.users, seconds, arguments.daemon))
    print(HEADER)
    print(row(report.load))
    first, last = report.samples[0][1], report.samples[-1][1]
    print(
        f"memory: {first:g} MB at first, {last:g} MB at last; "
        f"{report.slope_mb_per_hour:+g} MB an hour once settled"
    )
    print(report.load.machine)
    if arguments.out:
        text = json.dumps(attrs.asdict(report), indent=1)
        arguments.out.write_text(text, encoding="utf-8")
    return 0

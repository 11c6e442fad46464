"""`tabwise capacity`: measure service times, hold the simulation against a real fleet
behind nginx, and plan for more users than this machine carries."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics

import attrs

from tabwise_server.backends.http import Endpoint
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.bench.machine import describe_machine
from tabwise_server.capacity.fleet import running_fleet, running_router
from tabwise_server.capacity.plan import most_users, plan
from tabwise_server.capacity.probe import probing
from tabwise_server.capacity.service_times import measure_service_times, measure_waits
from tabwise_server.capacity.simulation import Fleet, ServiceTimes, simulate
from tabwise_server.capacity.throughput import default_source
from tabwise_server.capacity.typists import (
    Answer,
    Typing,
    quantile,
    summarise,
    type_all,
)

SIZES = (100, 10_000, 1_000_000)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backends", type=int, default=3)
    parser.add_argument("--users", type=int, default=20, help="who all type at once")
    parser.add_argument("--keystrokes", type=int, default=20, help="of each")
    parser.add_argument("--pause-s", type=float, default=1.0, help="between two")
    parser.add_argument(
        "--opening-s", type=float, default=0.0, help="over which the users come"
    )
    parser.add_argument("--slots", type=int, default=81, help="of each backend")
    parser.add_argument("--plan", action="store_true", help="100 to a million users")


def run(arguments: argparse.Namespace) -> int:
    typing = Typing(
        users=arguments.users,
        keystrokes=arguments.keystrokes,
        pause_s=arguments.pause_s,
        opening_s=arguments.opening_s,
        deadline_ms=60_000,
    )
    print(describe_machine())
    times, fleet, real = asyncio.run(
        _measure(arguments.backends, arguments.slots, typing)
    )
    _print_times(times, fleet)
    _print_comparison(real, simulate(times, fleet, typing))
    if arguments.plan:
        _print_plan(times)
    return 0


async def _measure(
    backends: int, slots: int, typing: Typing
) -> tuple[ServiceTimes, Fleet, list[Answer]]:
    """Service times, the fleet that this machine can be, and its answers through nginx
    to a load with empty caches."""
    async with contextlib.AsyncExitStack() as stack:
        members = await stack.enter_async_context(
            running_fleet(
                backends, "--engines", "0", "--threads", "1", "--slots", str(slots)
            )
        )
        urls = [member.url for member in members]
        url, _ = await stack.enter_async_context(running_router(urls))
        times = await measure_service_times(members[0], typing)
        waits = await measure_waits(url, times, typing)
        for member in members:
            await member.restart()
        with probing() as stretches:
            real = await type_all(
                lambda: TabwiseBackend(Endpoint(url)), default_source(), typing
            )
    fleet = Fleet(
        backends=backends,
        cores=len(os.sched_getaffinity(0)),  # `taskset` says on which
        shared=True,
        waits=waits,
        stretches=stretches,
    )
    return times, fleet, real


def _print_times(times: ServiceTimes, fleet: Fleet) -> None:
    wait_ms = statistics.median(fleet.waits) * 1000
    slow = quantile(sorted(fleet.stretches), 0.95)
    mean = statistics.fmean(fleet.stretches)
    print(
        f"\n{fleet.cores} cores, where other work makes 3 ms of computing take "
        f"{3 * mean:.1f} ms on average and {3 * slow:.1f} ms at the 95th percentile"
    )
    print("CPU milliseconds of a backend on one thread:")
    print("| a request | a step | a prompt token | a new token | asking |")
    print("|---|---|---|---|---|")
    parts = (
        *(times.request, times.step, times.prompt_token),
        *(times.new_token, times.client),
    )
    print("| " + " | ".join(f"{part * 1000:.3f}" for part in parts) + " |")
    tokens = statistics.fmean(times.new_tokens)
    print(
        f"a keystroke computes {times.warm_tokens:.1f} prompt tokens, a cold prompt "
        f"{times.cold_tokens}; {tokens:.1f} new tokens each; {times.slots} slots; "
        f"a lone typist waits {wait_ms:.1f} ms (median) beyond the computing\n"
    )


def _print_comparison(real: list[Answer], simulated: list[Answer]) -> None:
    print("| run | requests/s | median, ms | p95, ms | p99, ms | failed |")
    print("|---|---|---|---|---|---|")
    for name, answers in (("nginx, real", real), ("simulated", simulated)):
        done = summarise(answers)
        print(
            f"| {name} | {done.per_second} | {done.median_ms} | {done.p95_ms} "
            f"| {done.p99_ms} | {sum(done.failed.values())} |"
        )


def _print_plan(times: ServiceTimes) -> None:
    alone = Fleet(backends=1, cores=2, waits=(0.005,))
    most = most_users(times, alone)
    print(f"\none backend on two cores of its own: {most} people typing, p95 < 200 ms")
    for text, other in (
        ("without affinity, of three", attrs.evolve(alone, backends=3, affinity=False)),
        ("with affinity, of three", attrs.evolve(alone, backends=3)),
    ):
        print(f"{text}: {most_users(times, other) / 3:.0f} each")
    print(
        "| users | typing | requests/s | backends | Mbit/s | documents each | p95, ms |"
    )
    print("|---|---|---|---|---|---|---|")
    for users in SIZES:
        row = plan(times, alone, users, most)
        print("| " + " | ".join(f"{value:g}" for value in attrs.astuple(row)) + " |")

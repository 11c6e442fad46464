"""`tabwise cost`: measure what a machine does, and say what completions cost on it."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import attrs

from tabwise_server.backends.choose import open_clients
from tabwise_server.backends.protocol import Backend
from tabwise_server.bench.machine import describe_machine
from tabwise_server.capacity.prices import (
    MACHINES,
    SPOT,
    Demand,
    Throughput,
    cost_of,
    seed_example,
)
from tabwise_server.errors import SettingsError
from tabwise_server.settings import BackendSettings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        help="measure this one on this machine; may be given again (default: default)",
    )
    parser.add_argument(
        "--openai",
        metavar="URL",
        help="measure another engine that serves the model `tabwise`, e.g. vLLM",
    )
    parser.add_argument(
        "--throughput",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "REQUESTS", "TOKENS"),
        help="take these, a second, instead of measuring",
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring")
    parser.add_argument("--users", type=int, default=16, help="at once")
    parser.add_argument(
        "--open-chars",
        type=int,
        default=3_000,
        help="of a document before it is typed in; fewer for a short window",
    )
    parser.add_argument("--threads", type=int, default=2, help="of the native runner")
    parser.add_argument("--developers", type=int, default=100)
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="NAME=DOLLARS",
        help="an hour of a machine; may be given again (default: cpu-2 and cpu-4)",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace) -> int:
    prices = _prices(arguments.price)
    measured = [_given(*one) for one in arguments.throughput]
    if not measured or arguments.checkpoint or arguments.openai:
        measured += asyncio.run(_measure(arguments))
    demand = Demand(developers=arguments.developers)
    rows: list[dict[str, Any]] = [
        {
            "engine": done.name,
            "requests_per_s": done.requests_per_s,
            "tokens_per_s": done.tokens_per_s,
            "machine": name,
            "dollars_per_hour": price,
            **attrs.asdict(cost_of(done, price, demand)),
        }
        for done in measured
        for name, price in prices.items()
    ]
    if arguments.json:
        example = [attrs.asdict(step) for step in seed_example()]
        print(json.dumps({"rows": rows, "seed_example": example}))
    else:
        _print(rows, demand)
    return 0


def _print(rows: list[dict[str, Any]], demand: Demand) -> None:
    print(describe_machine())
    print(
        "| engine | requests/s | tokens/s | machine | $/h | $ per 1K tokens "
        "| $ per 1K requests "
        f"| machines for {demand.developers} developers | $ a month |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            "| {engine} | {requests_per_s:.0f} | {tokens_per_s:.0f} | {machine} "
            "| {dollars_per_hour:.3f} | {per_1k_tokens:.6f} | {per_1k_requests:.6f} "
            "| {machines} | {month:.0f} |".format(**row)
        )
    print("\nThe seed's example, 10 requests/s on 3 × A10G:")
    print("| step | $ a month | $ per 1K requests |\n|---|---|---|")
    for step in seed_example():
        print(f"| {step.what} | {step.month:,.0f} | {step.per_1k_requests:.4f} |")


async def _measure(arguments: argparse.Namespace) -> list[Throughput]:
    from tabwise_server.capacity.throughput import (
        measure_checkpoint,
        measure_throughput,
    )
    from tabwise_server.capacity.typists import Typing

    typing = Typing(
        users=arguments.users,
        keystrokes=1,
        deadline_ms=60_000,
        open_chars=arguments.open_chars,
    )
    how = (arguments.seconds, typing)
    found = []
    for checkpoint in arguments.checkpoint or ["default"]:
        flags = ("--threads", str(arguments.threads))
        found.append(await measure_checkpoint(checkpoint, *how, *flags))
    if arguments.openai:
        settings = BackendSettings(url=arguments.openai, kind="openai", model="tabwise")
        name = f"OpenAI API at {arguments.openai}"

        def client() -> Backend:
            return next(iter(open_clients(settings).values()))

        found.append(await measure_throughput(name, client, *how))
    return found


def _given(name: str, requests: str, tokens: str) -> Throughput:
    try:
        values = float(requests), float(tokens)
    except ValueError as error:
        raise SettingsError(f"--throughput {name}: {error}") from error
    if min(values) <= 0:
        raise SettingsError(f"--throughput {name}: both must be over 0")
    return Throughput(name=name, requests_per_s=values[0], tokens_per_s=values[1])


def _prices(given: list[str]) -> dict[str, float]:
    """Dollars an hour by name: what was given, or the table's, each on spot too."""
    prices = {}
    for one in given or ["cpu-2", "cpu-4"]:
        name, equals, text = one.partition("=")
        if not equals and name not in MACHINES:
            raise SettingsError(
                f"--price must be NAME=DOLLARS or one of {', '.join(MACHINES)}, "
                f"got {one!r}"
            )
        try:
            price = float(text) if equals else MACHINES[name].dollars_per_hour
        except ValueError as error:
            raise SettingsError(f"--price {one}: {error}") from error
        if price <= 0:
            raise SettingsError(f"--price {one}: must be over 0")
        prices[name] = price
        prices[f"{name}, spot"] = price * SPOT
    return prices

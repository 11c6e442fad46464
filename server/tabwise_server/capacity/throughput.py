"""What one backend does in a second when it is never idle."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import attrs

from tabwise_server.backends.http import Endpoint
from tabwise_server.backends.protocol import Backend
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.capacity.fleet import FleetError, running_fleet
from tabwise_server.capacity.prices import Throughput
from tabwise_server.capacity.typists import Typing, summarise, type_all

MANY = 1_000  # keystrokes: more than anybody types before the time is up


def default_source() -> str:
    """Real code that our model was not trained on: asyncio's loop."""
    return inspect.getsource(asyncio.base_events)


async def measure_throughput(
    name: str, open_client: Callable[[], Backend], seconds: float, typing: Typing
) -> Throughput:
    """`typing`'s users, never pausing, for `seconds`. Raises FleetError if any was
    refused."""
    typing = attrs.evolve(typing, keystrokes=MANY, pause_s=1e-6)
    source = default_source()
    await type_all(open_client, source, attrs.evolve(typing, keystrokes=2))
    enough = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, enough.set)
    done = summarise(await type_all(open_client, source, typing, enough))
    if done.failed:
        raise FleetError(f"{name} refused requests: {done.failed}")
    span = done.requests / done.per_second
    return Throughput(
        name=name,
        requests_per_s=done.per_second,
        tokens_per_s=round(done.tokens / span, 1),
    )


async def measure_checkpoint(
    checkpoint: str, seconds: float, typing: Typing, *flags: str
) -> Throughput:
    """One `tabwise serve` with this checkpoint, on this machine."""
    name = f"tabwise serve {checkpoint}"
    async with running_fleet(1, "--checkpoint", checkpoint, *flags) as [one]:
        return await measure_throughput(
            name, lambda: TabwiseBackend(Endpoint(one.url)), seconds, typing
        )

"""What a request, a step and a token cost a backend, in CPU seconds.

A few small loads of different shapes run on a real backend; its own counters say what
it did, the operating system how long it computed, and least squares which part of that
went where. CPU seconds are the same however busy the machine is otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import aiohttp
import attrs
import numpy as np

from tabwise_server.backends.http import Endpoint
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.bench.machine import cpu_seconds
from tabwise_server.capacity.fleet import FleetError, Member
from tabwise_server.capacity.simulation import ServiceTimes
from tabwise_server.capacity.throughput import default_source
from tabwise_server.capacity.typists import Answer, Typing, type_all
from tabwise_server.metrics_text import read_metrics

COUNTERS = ("steps", "prefill_tokens", "decode_tokens")
QUICK = Typing(users=1, keystrokes=60, pause_s=1e-6, deadline_ms=60_000)
# alone and in company, long answers and short ones, cold prompts and warm ones
LOADS: Sequence[Typing] = (
    QUICK,
    attrs.evolve(QUICK, max_new_tokens=1, keystrokes=120, seed=2),
    attrs.evolve(QUICK, max_new_tokens=48, seed=3),
    attrs.evolve(QUICK, users=8, keystrokes=20, seed=4),
    attrs.evolve(QUICK, users=16, keystrokes=10, seed=5),
    attrs.evolve(QUICK, users=40, keystrokes=1, seed=6),
    attrs.evolve(QUICK, users=20, keystrokes=2, max_new_tokens=1, seed=7),
)


async def measure_service_times(member: Member, typing: Typing) -> ServiceTimes:
    """Of `member`, for users who type like `typing`."""
    source, rows, cpu = default_source(), [], []
    client_s, requests, seen = 0.0, 0, list[Answer]()
    for load in LOADS:
        before, own = await _counted(member), time.process_time()
        answers = await type_all(
            lambda: TabwiseBackend(Endpoint(member.url)), source, load
        )
        spent = time.process_time() - own
        after = await _counted(member)
        if any(one.error for one in answers):
            raise FleetError("a request failed while service times were measured")
        rows.append([len(answers), *(after[1][n] - before[1][n] for n in COUNTERS)])
        cpu.append(after[0] - before[0])
        client_s, requests = client_s + spent, requests + len(answers)
        if load.max_new_tokens == typing.max_new_tokens:
            seen += answers
    request, step, prompt_token, new_token = _fit(rows, cpu)
    warm = [a for a in seen if a.cached_tokens > a.prompt_tokens // 2]
    cold = [a for a in seen if a.cached_tokens <= a.prompt_tokens // 2]
    return ServiceTimes(
        request=request,
        step=step,
        prompt_token=prompt_token,
        new_token=new_token,
        client=client_s / requests,
        cold_tokens=round(np.mean([a.prompt_tokens for a in cold])),
        warm_tokens=float(np.mean([a.prompt_tokens - a.cached_tokens for a in warm])),
        new_tokens=[max(a.tokens, 1) for a in seen],
        slots=round((await _metrics(member.url))["tabwise_engine_slots"]),
    )


async def measure_waits(url: str, times: ServiceTimes, typing: Typing) -> list[float]:
    """What a lone typist at `url` waits beyond the computing, in seconds: sockets, the
    router, and this machine's other work. One sample a keystroke."""
    alone = attrs.evolve(typing, users=1, keystrokes=QUICK.keystrokes, pause_s=0.02)
    answers = await type_all(
        lambda: TabwiseBackend(Endpoint(url)), default_source(), alone
    )
    computed = times.request + times.client
    step = times.step + times.new_token
    warm = times.prompt_token * times.warm_tokens
    return [
        max(0.0, one.latency_s - computed - warm - one.tokens * step)
        for one in answers[1:]  # the first opens the document
    ]


def _fit(rows: Sequence[Sequence[float]], cpu: Sequence[float]) -> list[float]:
    """Non-negative seconds for each column that best explain `cpu`: by least squares
    over the columns that stay positive."""
    table, spent = np.asarray(rows, dtype=float), np.asarray(cpu)
    kept = list(range(table.shape[1]))
    while True:
        found, *_ = np.linalg.lstsq(table[:, kept], spent, rcond=None)
        if (found > 0).all():
            break
        kept.pop(int(found.argmin()))
    whole = np.zeros(table.shape[1])
    whole[kept] = found
    return [float(value) for value in whole]


async def _counted(member: Member) -> tuple[float, dict[str, float]]:
    """CPU seconds, and the engine's counters, of a backend now."""
    metrics = await _metrics(member.url)
    counted = {name: metrics[f"tabwise_engine_{name}_total"] for name in COUNTERS}
    spent = cpu_seconds(member.process.pid)
    if spent is None:
        raise FleetError("this system does not say what a process computes")
    return spent, counted


async def _metrics(url: str) -> dict[str, float]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as answer:
        return read_metrics(await answer.text())

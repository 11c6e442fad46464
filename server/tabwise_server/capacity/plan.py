"""How many backends so many users need, by the simulation."""

from __future__ import annotations

import math

import attrs

from tabwise_server.capacity.simulation import Fleet, ServiceTimes, simulate
from tabwise_server.capacity.typists import Typing, quantile

PROMISE_S = 0.2  # for 95 of 100 answers
TYPING_SHARE = 0.25  # of the users, in the busiest hour
PAUSE_S = 0.5  # between two requests of one who types
BYTES_UP, BYTES_DOWN = 5_000, 700  # of a request and its answer, headers included
SPARE = 1 / 3  # one of three zones may be lost
KEYSTROKES = 60  # that are simulated of each user


@attrs.frozen(kw_only=True)
class Plan:
    """typing: at once, in the busiest hour. mbit_s: both ways."""

    users: int
    typing: int
    requests_per_s: float
    backends: int
    mbit_s: float
    documents_each: float
    p95_ms: float


def p95_s(times: ServiceTimes, fleet: Fleet, users: int) -> float:
    """The 95th percentile of the latencies of `users` who all type."""
    typing = Typing(users=users, keystrokes=KEYSTROKES, pause_s=PAUSE_S)
    answers = simulate(times, fleet, typing)
    return quantile(sorted(one.latency_s for one in answers), 0.95)


def most_users(times: ServiceTimes, fleet: Fleet) -> int:
    """How many may type at once on `fleet` within the promise (bisection)."""
    good, bad = 0, 8
    while bad <= 4096 and p95_s(times, fleet, bad) <= PROMISE_S:
        good, bad = bad, bad * 2
    while bad - good > max(1, good // 32):
        middle = (good + bad) // 2
        if p95_s(times, fleet, middle) <= PROMISE_S:
            good = middle
        else:
            bad = middle
    return good


def plan(times: ServiceTimes, alone: Fleet, users: int, most: int) -> Plan:
    """The fleet for `users`. most: of those who type, on one backend like `alone`."""
    typing = math.ceil(users * TYPING_SHARE)
    backends = max(3, math.ceil(typing / most / (1 - SPARE)))
    each = math.ceil(typing / (backends * (1 - SPARE)))  # with a zone lost
    latency_s = p95_s(times, alone, each)
    rate = typing / (PAUSE_S + latency_s)
    return Plan(
        users=users,
        typing=typing,
        requests_per_s=round(rate),
        backends=backends,
        mbit_s=round(rate * (BYTES_UP + BYTES_DOWN) * 8 / 1e6, 1),
        documents_each=each,
        p95_ms=round(latency_s * 1000, 1),
    )

"""What completions cost: from what a machine does, and what it costs an hour.

Knows no machine that it has not been told the throughput of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import attrs

HOURS = 730.0  # in a month
SPOT = 0.3  # of the price on demand: the seed's -70 %
MIN_REPLICAS = 3  # for 99.9 %, whatever the load


@attrs.frozen(kw_only=True)
class Machine:
    """dollars_per_hour: on demand. cores: of the CPU; gpu: its name, None without."""

    dollars_per_hour: float
    cores: int
    gpu: str | None = None


# List prices of one large cloud's eastern region, on demand, as far as known when this
# was written; look yours up, and say it with --price.
MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        "cpu-2": Machine(dollars_per_hour=0.09, cores=1),
        "cpu-4": Machine(dollars_per_hour=0.18, cores=2),
        "cpu-arm-2": Machine(dollars_per_hour=0.07, cores=2),
        "t4": Machine(dollars_per_hour=0.53, cores=2, gpu="T4"),
        "l4": Machine(dollars_per_hour=0.80, cores=2, gpu="L4"),
        "a10g": Machine(dollars_per_hour=1.00, cores=2, gpu="A10G"),  # the seed's
        "a100": Machine(dollars_per_hour=4.10, cores=6, gpu="A100"),
        "h100": Machine(dollars_per_hour=6.90, cores=12, gpu="H100"),
    }
)


@attrs.frozen(kw_only=True)
class Throughput:
    """What one machine was measured to do with all that it has, in a second."""

    name: str
    requests_per_s: float
    tokens_per_s: float  # generated


@attrs.frozen(kw_only=True)
class Demand:
    """peak_per_developer: requests a second and developer in the busiest hour: one in
    four types, and asks twice a second. use: the share of a machine's throughput that
    is planned with, so that queues stay short (docs/capacity.md)."""

    developers: int = 100
    peak_per_developer: float = 0.5
    use: float = 0.5

    @property
    def requests_per_s(self) -> float:
        return self.developers * self.peak_per_developer


@attrs.frozen(kw_only=True)
class Cost:
    """Dollars. The first two at full use, the month for the machines that stand."""

    per_1k_tokens: float
    per_1k_requests: float
    machines: int
    month: float


def cost_of(done: Throughput, dollars_per_hour: float, demand: Demand) -> Cost:
    """What `demand` costs on machines that do what was measured."""
    fitting = demand.requests_per_s / (done.requests_per_s * demand.use)
    machines = max(MIN_REPLICAS, math.ceil(fitting))
    return Cost(
        per_1k_tokens=dollars_per_hour / 3600 / done.tokens_per_s * 1000,
        per_1k_requests=dollars_per_hour / 3600 / done.requests_per_s * 1000,
        machines=machines,
        month=machines * dollars_per_hour * HOURS,
    )


@attrs.frozen(kw_only=True)
class Step:
    """One line of the seed's example: dollars a month, and per 1,000 requests."""

    what: str
    month: float
    per_1k_requests: float


def seed_example() -> list[Step]:
    """The seed's example with its arithmetic done: 3 × A10G at $1.00, 10 requests a
    second; then its three factors, first one by one and then as what they can do.

    Its 97 % takes for granted that a bill shrinks with the work. Three machines that
    stand for availability cost the same however little they do: of the three factors
    only the price's is a saving here.
    """
    month = 3 * 1.00 * HOURS
    requests = 10 * 3600 * HOURS
    steps = []
    for what, factor in (
        ("3 × A10G at $1.00 an hour", 1.0),
        ("× 0.3: spot", SPOT),
        ("× 0.5: INT4, as promised", SPOT * 0.5),
        ("× 0.2: vLLM, as promised (97 % saved)", SPOT * 0.5 * 0.2),
        ("what can be paid: three machines, spot (70 % saved)", SPOT),
    ):
        dollars = month * factor
        per_1k = dollars / requests * 1000
        steps.append(Step(what=what, month=dollars, per_1k_requests=per_1k))
    return steps

"""The simulation against what queueing theory says, and the plan that rests on it."""

import statistics

import attrs
import numpy as np
import pytest

from tabwise_server.capacity.plan import most_users, plan
from tabwise_server.capacity.service_times import _fit
from tabwise_server.capacity.simulation import Fleet, ServiceTimes, simulate
from tabwise_server.capacity.typists import Typing, quantile

TIMES = ServiceTimes(
    request=0.002,
    step=0.0001,
    prompt_token=0.00004,
    new_token=0.0003,
    client=0.0006,
    cold_tokens=466,
    warm_tokens=1.0,
    new_tokens=[4],
    slots=81,
)
NOTHING = attrs.evolve(
    TIMES, step=0.0, prompt_token=0.0, new_token=0.0, new_tokens=[1], client=0.0
)
ALONE = Fleet(backends=1, cores=2)


def test_one_keystroke_takes_the_sum_of_its_parts() -> None:
    first, second = simulate(TIMES, ALONE, Typing(users=1, keystrokes=2))
    # 466 tokens in four chunks; the last chunk's step gives the first of four tokens
    cold = 0.002 + 466 * 0.00004 + 4 * 0.0001 + 3 * (0.0001 + 0.0003)
    warm = 0.002 + 1 * 0.00004 + 1 * 0.0001 + 3 * (0.0001 + 0.0003)
    assert first.latency_s == pytest.approx(cold)
    assert second.latency_s == pytest.approx(warm)


def test_waiting_is_that_of_an_m_d_1_queue() -> None:
    """Many users with long pauses arrive as a Poisson stream; with requests of one
    constant length, Pollaczek and Khinchine say how long they wait."""
    times = attrs.evolve(NOTHING, request=0.01)
    typing = Typing(users=300, keystrokes=40, pause_s=5.0)  # 60 a second: 60 % busy
    answers = simulate(times, ALONE, typing)
    steady = answers[len(answers) // 10 : len(answers) * 8 // 10]
    wait = statistics.fmean(one.latency_s - 0.01 for one in steady)
    assert wait == pytest.approx(0.6 * 0.01 / (2 * (1 - 0.6)), rel=0.1)


def test_a_batch_shares_its_steps() -> None:
    times = attrs.evolve(
        NOTHING, step=0.01, new_tokens=[10], request=1e-9, cold_tokens=1
    )
    typing = Typing(users=50, keystrokes=1, pause_s=1e-9)
    longest = max(one.latency_s for one in simulate(times, ALONE, typing))
    assert longest < 0.13  # 11 or 12 steps of 10 ms for all, not 500


def test_a_shared_core_is_shared() -> None:
    times = attrs.evolve(NOTHING, request=0.01)
    typing = Typing(users=60, keystrokes=1, pause_s=1e-9)
    shared = simulate(times, Fleet(backends=3, cores=1, shared=True), typing)
    own = simulate(times, Fleet(backends=3, cores=1), typing)
    assert max(a.latency_s for a in shared) == pytest.approx(0.6, rel=0.01)
    assert max(a.latency_s for a in own) == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize("spoilt", ["affinity", "slots"])
def test_a_cold_cache_costs_what_affinity_and_slots_are_for(spoilt: str) -> None:
    fleet = Fleet(backends=3, cores=1)
    times = TIMES
    if spoilt == "affinity":
        fleet = attrs.evolve(fleet, affinity=False)
        times = attrs.evolve(TIMES, slots=25)
    else:
        times = attrs.evolve(TIMES, slots=10)
    typing = Typing(users=60, keystrokes=20, pause_s=1.0)

    def p95(how: ServiceTimes, what: Fleet) -> float:
        return quantile(sorted(a.latency_s for a in simulate(how, what, typing)), 0.95)

    assert p95(times, fleet) > 1.5 * p95(TIMES, Fleet(backends=3, cores=1))


def test_the_same_seed_is_the_same_run() -> None:
    typing = Typing(users=10, keystrokes=10)
    assert simulate(TIMES, ALONE, typing) == simulate(TIMES, ALONE, typing)


def test_least_squares_find_what_the_counters_cost() -> None:
    dice = np.random.default_rng(1)
    rows = dice.uniform(10, 1000, (12, 4))
    cost = np.array([0.002, 0.0, 0.00004, 0.0003])
    found = _fit(rows.tolist(), (rows @ cost).tolist())
    assert found == pytest.approx(cost.tolist(), abs=1e-9)


def test_a_plan_keeps_the_promise_with_a_zone_lost() -> None:
    times = attrs.evolve(TIMES, slots=20)
    most = most_users(times, ALONE)
    assert 20 <= most < 80  # with 81 slots it is 96
    small, large = (plan(times, ALONE, users, most) for users in (100, 10_000))
    assert small.backends >= 3
    assert large.backends >= large.typing / most * 1.5
    assert max(small.p95_ms, large.p95_ms) <= 200

import math

import numpy as np
import pytest

from tabwise_model.request import Sampling
from tabwise_model.sampling import NotFinite, Sampler


def logits(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def draw_many(row: np.ndarray, sampling: Sampling, times: int) -> list[int]:
    sampler = Sampler(sampling)
    return [sampler.choose(row)[0] for _ in range(times)]


def test_greedy_takes_the_highest_and_the_lowest_id_among_equals() -> None:
    assert Sampler(Sampling()).choose(logits(0, 3, 1, 3))[0] == 1


def test_the_log_probability_is_that_of_the_softmax() -> None:
    row = logits(0.5, -1, 2, 1.5)
    expected = math.log(np.exp(2) / np.exp(row.astype(np.float64)).sum())
    assert Sampler(Sampling()).choose(row)[1] == pytest.approx(expected, abs=1e-6)


def test_large_logits_do_not_overflow() -> None:
    assert Sampler(Sampling()).choose(logits(30_000, 29_000)) == (0, 0.0)


def test_draws_follow_the_temperature() -> None:
    row = logits(0, 1, 2)
    drawn = draw_many(row, Sampling(temperature=2.0, seed=1), 20_000)
    weights = np.exp(row.astype(np.float64) / 2)
    found = np.bincount(drawn, minlength=3) / len(drawn)
    assert found == pytest.approx(weights / weights.sum(), abs=0.015)


def test_only_the_top_k_are_drawn() -> None:
    row = logits(5, 0, 4.9, 0, 4.8)
    drawn = draw_many(row, Sampling(temperature=10.0, top_k=2, seed=1), 200)
    assert set(drawn) == {0, 2}


def test_one_of_one_is_greedy() -> None:
    row = logits(1, 7, 7, 6.999)
    only = Sampling(temperature=10.0, top_k=1, seed=1)
    assert {Sampler(only).choose(row) for _ in range(20)} == {
        Sampler(Sampling()).choose(row)
    }


def test_a_tiny_temperature_is_greedy() -> None:
    row = logits(1, 7, 6.999)
    assert set(draw_many(row, Sampling(temperature=1e-300, seed=1), 20)) == {1}


def test_a_seed_repeats_its_draws() -> None:
    row = np.zeros(50, dtype=np.float32)
    first, again, other = (
        draw_many(row, Sampling(temperature=1.0, seed=seed), 20) for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_refused(bad: float, temperature: float) -> None:
    with pytest.raises(NotFinite):
        Sampler(Sampling(temperature=temperature)).choose(logits(0, bad, 1))


def test_an_impossible_token_is_never_drawn() -> None:
    row = logits(0, -math.inf, 0)
    assert 1 not in draw_many(row, Sampling(temperature=5.0, seed=1), 100)

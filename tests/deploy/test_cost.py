"""Dollars: the sums, the seed's example, and the command with a real backend."""

import json

import pytest

from tabwise_server.capacity.prices import (
    Demand,
    Throughput,
    cost_of,
    seed_example,
)
from tabwise_server.cli import main

MEASURED = Throughput(name="x", requests_per_s=100.0, tokens_per_s=500.0)


def test_the_sums_are_those_of_a_calculator() -> None:
    # 3,600 s at 500 tokens/s are 1,800,000 tokens for $0.90: $0.0005 per thousand
    cost = cost_of(MEASURED, 0.90, Demand(developers=100))
    assert cost.per_1k_tokens == pytest.approx(0.0005)
    assert cost.per_1k_requests == pytest.approx(0.0025)
    # 50 requests/s need one machine of these; availability wants three
    assert cost.machines == 3
    assert cost.month == pytest.approx(3 * 0.90 * 730)


def test_many_developers_need_machines_for_half_their_throughput() -> None:
    cost = cost_of(MEASURED, 1.0, Demand(developers=1_000))
    assert cost.machines == 10  # 500 requests/s at 50 planned on each


def test_the_seeds_example_has_its_right_sums() -> None:
    months = [step.month for step in seed_example()]
    assert months == pytest.approx([2190.0, 657.0, 328.5, 65.7, 657.0])
    # 26.28 million requests a month
    assert seed_example()[0].per_1k_requests == pytest.approx(2190 / 26_280)


def test_given_throughputs_are_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(
        ["cost", "--throughput", "x", "100", "500", "--price", "m=0.9", "--json"]
    )
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert status == 0
    assert [row["machine"] for row in rows] == ["m", "m, spot"]
    assert rows[0]["per_1k_tokens"] == pytest.approx(0.0005)
    assert rows[1]["month"] == pytest.approx(rows[0]["month"] * 0.3)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--price", "moon"], "NAME=DOLLARS"),
        (["--price", "m=free"], "m=free"),
        (["--price", "m=-1"], "must be over 0"),
        (["--throughput", "x", "many", "1"], "x"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cost", *flags]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.slow
def test_a_thousand_tokens_cost_less_than_a_cent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["cost", "--seconds", "3", "--threads", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0]["tokens_per_s"] > 0
    assert all(row["per_1k_tokens"] < 0.01 for row in rows)

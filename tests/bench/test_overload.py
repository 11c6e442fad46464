"""Ten times more than can be served: what is counted, and a small run of it."""

import json
from pathlib import Path

import pytest

from support.checkpoints import save_tiny
from support.language_server import isolated
from tabwise_server.bench import overload
from tabwise_server.bench.overload import People, Tally
from tabwise_server.cli import main


def test_only_what_is_answered_in_the_steady_part_counts() -> None:
    tally = Tally(begin=10.0, end=20.0)
    for answered in (9.0, 10.0, 15.0, 20.0, 21.0):
        tally.add(200, answered - 0.5, answered)
    tally.add(503, 14.0, 14.25)
    assert tally.per_s(200) == pytest.approx(0.3)
    assert tally.per_s(200, 503) == pytest.approx(0.4)
    assert tally.sorted(503, 200) == [0.25, 0.5, 0.5, 0.5]


def test_how_many_were_refused_soon() -> None:
    assert overload._share_within([0.002, 0.01, 0.05], 0.01) == pytest.approx(0.6667)
    assert overload._share_within([], 0.01) == 1.0


def test_people_take_turns_and_type_on() -> None:
    people = People(1)
    asked = [json.loads(people.next()) for _ in range(2 * overload.USERS)]
    sessions = [one["session"] for one in asked]
    assert len(set(sessions)) == overload.USERS
    assert sessions[: overload.USERS] == sessions[overload.USERS :]
    assert asked[0]["prefix"] != asked[overload.USERS]["prefix"]


def test_requests_may_be_left_out_between_those_of_a_person() -> None:
    steps, leaps = People(1), People(1)
    for _ in range(2 * overload.USERS):
        steps.next()
    third = [steps.next() for _ in range(overload.USERS)]
    assert [leaps.next(3) for _ in range(overload.USERS)] == third


def test_an_overload_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(save_tiny(tmp_path / "tiny"))
    environment = isolated(tmp_path, TABWISE_SERVE_CHECKPOINT=checkpoint)
    for name, value in {**environment, "TABWISE_SERVE_MAX_QUEUE": "8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(overload, "WARM_S", 0.5)
    out = tmp_path / "overload.json"
    arguments = ["--times", "4", "--seconds", "1.5", "--out", str(out)]
    assert main(["bench", "overload", *arguments]) == 0
    floods = json.loads(out.read_text())["floods"]
    assert len(floods) == 3
    for flood in floods:
        assert flood["served_per_s"] > 0
        assert flood["failed_per_s"] == 0
    assert floods[-1]["refused_per_s"] > 0
    assert floods[-1]["refused_p50_ms"] > 0
    assert "of the most" in capsys.readouterr().out


def test_an_overload_without_bounds_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "overload", "--times", "1000"]) == 1
    assert "must be" in capsys.readouterr().err

"""Typing users against a real backend: their schedule, and what is reported."""

import itertools
import json
import random
import statistics
from pathlib import Path

import attrs
import pytest

from support.checkpoints import save_tiny
from support.language_server import isolated
from tabwise_server.bench.curve import LoadReport, users_at_goal
from tabwise_server.bench.load import Shown
from tabwise_server.bench.users import (
    EDITOR_WAIT_S,
    KEY_DEVIATION_S,
    KEY_MEAN_S,
    asks,
    key_gap,
    sources,
)
from tabwise_server.cli import main
from tabwise_server.errors import SettingsError

REPORT = LoadReport(
    users=1,
    seconds=1.0,
    requests=1,
    from_memory=0,
    answered=1,
    cancelled=0,
    errors=0,
    served_per_s=1.0,
    p50_ms=1.0,
    p95_ms=1.0,
    p99_ms=1.0,
    server_cpu=None,
    server_cpu_ms_per_request=None,
    generator_cpu=0.0,
    server_mb=None,
    machine="m",
)


def test_gaps_between_keys_have_the_sources_mean_and_deviation() -> None:
    rng = random.Random(1)
    gaps = [key_gap(rng) for _ in range(20_000)]
    assert statistics.mean(gaps) == pytest.approx(KEY_MEAN_S, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(KEY_DEVIATION_S, rel=0.05)


def test_a_schedule_goes_forward_in_time_and_through_the_file() -> None:
    text = sources(1)[0]
    schedule = list(asks(text, 600, random.Random(3)))
    times = [ask.at for ask in schedule]
    assert times == sorted(times)
    assert times[-1] < 600
    assert all(0 < ask.cursor < ask.after <= len(text) for ask in schedule)
    assert all(text[ask.after] == "\n" for ask in schedule)  # no code to the right
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert min(gaps) > EDITOR_WAIT_S
    assert 1.5 < len(times) / 600 < 2.5  # a second, as the docstring says
    steps = [b.cursor - a.cursor for a, b in itertools.pairwise(schedule)]
    assert statistics.median(steps) == 1


def test_typing_what_is_shown_asks_nobody() -> None:
    shown = Shown(4, "foo()")
    assert shown.continued("x = foo(1)", 6)
    assert not shown.continued("x = foo(1)", 9)  # typed: foo(1
    assert not shown.continued("x = foo()", 9)  # nothing is left
    assert not Shown(0, "").continued("x", 0)


def test_every_user_has_a_file_of_their_own() -> None:
    texts = sources(400)
    assert len({text[:2_000] for text in texts}) == 400


def test_the_users_at_the_goal_lie_between_two_measurements() -> None:
    def at(users: int, p95_ms: float | None) -> LoadReport:
        return attrs.evolve(REPORT, users=users, p95_ms=p95_ms)

    assert users_at_goal([at(100, 100), at(200, 300)]) == 150
    assert users_at_goal([at(100, 100), at(200, None)]) == 100
    assert users_at_goal([at(100, 100), at(200, 150)]) is None
    assert users_at_goal([at(10, 500)]) == 10


def test_a_load_is_measured_and_its_curve_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    environment = isolated(
        tmp_path, TABWISE_SERVE_CHECKPOINT=str(save_tiny(tmp_path / "tiny"))
    )
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tabwise_server.bench.load.WARM_S", 0.5)
    out = tmp_path / "load.json"
    arguments = [
        "--curve",
        "2,6",
        "--seconds",
        "2",
        "--backends",
        "2",
        "--out",
        str(out),
    ]
    assert main(["bench", "load", *arguments]) == 0
    reports = json.loads(out.read_text())["reports"]
    assert [report["users"] for report in reports] == [2, 6]
    for report in reports:
        assert report["errors"] == 0
        assert report["requests"] == report["answered"] + report["cancelled"]
    assert reports[1]["answered"] > 0
    assert reports[1]["generator_cpu"] >= 0
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "p95 passes 200 ms at" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--users", "0"], ["--users", "99999"], ["--seconds", "0"], ["--backends", "0"]],
)
def test_a_load_without_bounds_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "load", *arguments]) == 1
    assert "must be" in capsys.readouterr().err


def test_a_picture_without_matplotlib_is_refused_before_measuring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    from tabwise_server.bench.curve import require_matplotlib

    with pytest.raises(SettingsError, match=r"pip install 'tabwise\[train\]'"):
        require_matplotlib()

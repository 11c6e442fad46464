"""Memory over time, as it is told."""

import json
from pathlib import Path

import pytest

from support.language_server import isolated
from tabwise_server.bench.soak import slope
from tabwise_server.cli import main


def test_growth_shows_and_what_is_touched_first_does_not_count() -> None:
    flat = [(float(t), 80.0 if t < 10 else 100.0) for t in range(100)]
    assert slope(flat) == 0
    growing = [(float(t), 100 + t / 36) for t in range(100)]
    assert slope(growing) == pytest.approx(100, rel=0.01)
    assert slope([]) == slope([(0.0, 5.0)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [[], ["--daemon"]])
def test_a_short_soak_of_a_real_server(
    kind: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in isolated(tmp_path).items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "soak.json"
    flags = [*kind, "--users", "2", "--minutes", "0.05", "--out", str(out)]
    assert main(["bench", "soak", *flags]) == 0
    found = json.loads(out.read_text())
    assert len(found["samples"]) > 2
    assert found["load"]["errors"] == 0
    assert "MB an hour" in capsys.readouterr().out

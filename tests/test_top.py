"""`tabwise top`: what is computed, and what is seen of a real backend."""

import asyncio
import io
import math
import sys
from pathlib import Path

import pytest
from rich.console import Console

from support.checkpoints import save_tiny
from support.language_server import isolated
from tabwise_server.backends.protocol import Health
from tabwise_server.bench.processes import tabwise_serve
from tabwise_server.top.figures import Look, Looks
from tabwise_server.top.view import screen, spark

COUNT = 'code_completion_requests_total{status="success"}'
HEALTH = Health(ready=True, status="healthy", device="cpu", model="tiny", version="1")


def looks(*values: dict[str, float], window_s: float = 30.0) -> Looks:
    """A look a second."""
    found = Looks(window_s)
    for at, value in enumerate(values):
        found.add(Look(float(at), value))
    return found


def test_rates_are_growth_by_time_within_the_window() -> None:
    found = looks(*({"n": float(n * n)} for n in range(6)), window_s=3.0)
    assert found.rate("n") == (25 - 4) / 3
    assert found.rates("n") == [5, 7, 9]
    assert found.now("n") == 25
    assert found.rate("unknown") == 0
    assert looks({"n": 5.0}).rate("n") == 0


def test_a_backend_that_was_started_again_counts_from_nothing() -> None:
    found = looks({"n": 100.0}, {"n": 110.0}, {"n": 4.0})
    assert found.grown("n") == 14
    assert found.rates("n") == [10, 0]


def test_quantiles_are_of_what_came_within_the_window() -> None:
    def buckets(*counts: float) -> dict[str, float]:
        bounds = ("0.1", "0.2", "1.0", "+Inf")
        pairs = zip(bounds, counts, strict=True)
        return {f'h_bucket{{le="{bound}"}}': count for bound, count in pairs}

    found = looks(buckets(50, 50, 50, 50), buckets(50, 60, 70, 70))
    assert found.quantile("h", 0.25) == pytest.approx(0.15)
    assert found.quantile("h", 0.5) == pytest.approx(0.2)
    assert found.quantile("h", 1.0) == pytest.approx(1.0)
    slow = looks(buckets(0, 0, 0, 0), buckets(0, 0, 0, 3))
    assert slow.quantile("h", 0.5) == math.inf
    assert looks(buckets(1, 1, 1, 1)).quantile("h", 0.5) is None


def test_bars_are_as_high_as_the_values() -> None:
    assert spark([0, 1, 2]) == "▁▅█"
    assert spark([0, 0]) == "▁▁"
    assert spark([]) == ""
    assert len(spark([1.0] * 500)) == 30


def test_the_screen_shows_refusals_by_reason_and_nothing_where_nothing_is() -> None:
    def shown(found: Looks) -> str:
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(screen("http://here", HEALTH, found))
        return console.export_text()

    quiet = shown(looks({COUNT: 1.0}, {COUNT: 9.0}))
    assert "8.0" in quiet
    assert "none" in quiet
    refused = 'tabwise_rejected_requests_total{reason="overloaded"}'
    busy = shown(looks({refused: 1.0}, {refused: 4.0}))
    assert "refused: overloaded" in busy
    assert "none" not in busy
    assert max(map(len, busy.splitlines())) <= 100


async def test_it_shows_a_real_backend(tmp_path: Path) -> None:
    checkpoint = str(save_tiny(tmp_path / "tiny"))
    environment = isolated(tmp_path, TABWISE_SERVE_CHECKPOINT=checkpoint)
    async with tabwise_serve((), environment) as served:
        said = await top(environment, "--url", served.url)
    assert "tiny on cpu" in said
    assert "of 128" in said
    assert "no daemon runs here" in await top(environment)


async def top(environment: dict[str, str], *flags: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tabwise_server", "top", "--once", "--every-s", "0.1"),
        *flags,
        env={**environment, "COLUMNS": "100"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    return (await process.communicate())[0].decode()

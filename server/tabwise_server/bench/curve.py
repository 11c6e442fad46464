"""Latency over the number of users: its picture, and where it passes the goal."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import attrs

from tabwise_server.errors import SettingsError

GOAL_MS = 200.0


@attrs.frozen(kw_only=True)
class LoadReport:
    """Milliseconds from the scheduled time to the answer's last byte; None where more
    were cancelled than answered. requests: without those that the editor answered from
    memory. cpu shares: of one core, over the counted time."""

    users: int
    seconds: float
    requests: int
    from_memory: int
    answered: int
    cancelled: int
    errors: int
    served_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    server_cpu: float | None
    server_cpu_ms_per_request: float | None
    generator_cpu: float
    server_mb: float | None
    machine: str


def users_at_goal(
    reports: Sequence[LoadReport], goal_ms: float = GOAL_MS
) -> int | None:
    """The number of users at which p95 passes the goal, on the straight line between
    the two measurements around it; None if it never does."""
    before: LoadReport | None = None
    for report in sorted(reports, key=lambda r: r.users):
        p95 = math.inf if report.p95_ms is None else report.p95_ms
        if p95 > goal_ms:
            if before is None or before.p95_ms is None or math.isinf(p95):
                return report.users if before is None else before.users
            way = (goal_ms - before.p95_ms) / (p95 - before.p95_ms)
            return round(before.users + way * (report.users - before.users))
        before = report
    return None


def require_matplotlib() -> None:
    """Raises SettingsError with the remedy before anything is measured."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SettingsError("a picture needs: pip install 'tabwise[train]'")


def draw(reports: Sequence[LoadReport], limit: int | None, file: Path) -> None:
    """Latency over users, both logarithmic, with the goal; below, how many requests
    were answered of those that were made."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(5, 3))
    users = [r.users for r in reports]
    for name in ("p50", "p95", "p99"):
        times = [getattr(r, f"{name}_ms") or math.nan for r in reports]
        above.plot(users, times, marker="o", label=name)
    above.axhline(GOAL_MS, color="grey", linestyle="--", linewidth=1)
    above.set(xscale="log", yscale="log", ylabel="latency, ms")
    made = [r.requests / r.seconds for r in reports]
    below.plot(users, made, color="grey", linestyle="--", label="made")
    below.plot(users, [r.served_per_s for r in reports], marker="o", label="answered")
    below.set(yscale="log", xlabel="typing users", ylabel="requests/s")
    passes = "is not passed" if limit is None else f"is passed at {limit} users"
    above.set_title(f"p95 of {GOAL_MS:g} ms {passes}\n{reports[0].machine}", fontsize=9)
    for axes in (above, below):
        axes.legend()
        axes.grid(visible=True, which="both", alpha=0.3)
    figure.savefig(file, dpi=150)

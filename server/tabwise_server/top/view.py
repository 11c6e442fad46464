"""The figures on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tabwise_server.backends.protocol import Health
from tabwise_server.top.figures import Looks

BARS = "▁▂▃▄▅▆▇█"
HISTORY = 30  # columns
GOAL_S = 0.2  # slower than this is shown in red
REQUESTS = "code_completion_requests_total"
TIMES = (
    ("whole answer", "code_completion_duration_seconds"),
    ("in the queue", "tabwise_queue_seconds"),
    ("to the first token", "tabwise_first_token_seconds"),
    ("each token", "tabwise_token_seconds"),
)
ENGINE = (
    ("cancelled", "tabwise_engine_cancelled_total"),
    ("past their deadline", "tabwise_engine_expired_total"),
    ("failed", "tabwise_engine_failed_total"),
    ("clients that left", "tabwise_client_disconnects_total"),
)


def screen(url: str, health: Health, looks: Looks) -> RenderableType:
    """All of it, for a terminal of 80 columns or more."""
    sides = Table.grid(expand=True, padding=(0, 1))
    sides.add_column(ratio=1)
    sides.add_column(ratio=1)
    sides.add_row(_requests(looks), _times(looks))
    sides.add_row(_engine(looks), _trouble(looks))
    return Group(_head(url, health), sides)


def trouble_screen(url: str, reason: str) -> RenderableType:
    """Where there is nothing to show."""
    return Panel(Text(reason, style="red"), title=url, title_align="left")


def spark(values: Sequence[float]) -> str:
    """The newest values as a line of bars.

    spark([0, 1, 2]) == "▁▅█"
    """
    shown = values[-HISTORY:]
    top = max(shown, default=0.0)
    if not top:
        return BARS[0] * len(shown)
    return "".join(BARS[math.ceil(value / top * (len(BARS) - 1))] for value in shown)


def _head(url: str, health: Health) -> RenderableType:
    style = "green" if health.ready else "red"
    line = Text.assemble(
        ("● ", style), (url, "bold"), f"  {health.model} on {health.device}"
    )
    state = "ready" if health.ready else health.status
    return Panel(line, subtitle=f"{state}, version {health.version}")


def _requests(looks: Looks) -> Panel:
    good = f'{REQUESTS}{{status="success"}}'
    table = _table()
    table.add_row(
        "answered a second", f"{looks.rate(good):.1f}", spark(looks.rates(good))
    )
    tokens = "tokens_generated_total"
    table.add_row(
        "tokens a second", f"{looks.rate(tokens):.0f}", spark(looks.rates(tokens))
    )
    taken, limit = looks.now("tabwise_places_taken"), looks.now("tabwise_places")
    table.add_row("in the house", f"{taken:.0f}", f"of {limit:.0f}")
    table.add_row("prefix cache", _share(_prefix(looks)), "of prompt tokens")
    table.add_row("response cache", _share(_responses(looks)), "of questions")
    return Panel(table, title="Requests", title_align="left")


def _times(looks: Looks) -> Panel:
    table = _table("right")
    table.add_row("", Text("median", style="dim"), Text("95 of 100", style="dim"))
    for text, name in TIMES:
        median, most = (looks.quantile(name, share) for share in (0.5, 0.95))
        table.add_row(text, _seconds(median), _seconds(most))
    return Panel(table, title="Time, ms", title_align="left")


def _engine(looks: Looks) -> Panel:
    steps, batched = (
        looks.grown(f"tabwise_engine_batch_size_{part}") for part in ("count", "sum")
    )
    table = _table()
    slots = looks.now("tabwise_engine_slots")
    table.add_row(
        "in slots", f"{looks.now('tabwise_engine_running'):.0f}", f"of {slots:.0f}"
    )
    table.add_row("waiting", f"{looks.now('tabwise_engine_queued'):.0f}", "for a slot")
    table.add_row(
        "batch", f"{batched / steps:.1f}" if steps else "-", "requests a step"
    )
    name = "tabwise_engine_steps_total"
    table.add_row("steps a second", f"{looks.rate(name):.0f}", spark(looks.rates(name)))
    return Panel(table, title="Engine", title_align="left")


def _trouble(looks: Looks) -> Panel:
    table = _table()
    counts = [(text, looks.grown(name)) for text, name in ENGINE]
    refused = looks.labelled("tabwise_rejected_requests_total")
    counts += [(f"refused: {reason}", n) for reason, n in refused.items()]
    restarts = sum(looks.labelled("tabwise_engine_restarts_total").values())
    counts.append(("engine restarted", restarts))
    for text, count in _some(counts):
        table.add_row(text, Text(f"{count:.0f}", style="yellow"), "")
    if not table.rows:
        table.add_row(Text("none", style="green"), "", "")
    return Panel(table, title="Trouble, last half minute", title_align="left")


def _some(counts: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return [(text, count) for text, count in counts if count]


def _table(last: Literal["left", "right"] = "left") -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=18)
    table.add_column(justify="right", min_width=8)
    table.add_column(justify=last, min_width=9)
    return table


def _prefix(looks: Looks) -> float | None:
    engine = "tabwise_engine_{}_tokens_total"
    return looks.share(engine.format("cached"), engine.format("prompt"))


def _responses(looks: Looks) -> float | None:
    found = looks.labelled("tabwise_response_cache_total")
    total = sum(found.values())
    return 1 - found.get("nowhere", 0.0) / total if total else None


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.0f} %"


def _seconds(value: float | None) -> Text:
    if value is None:
        return Text("-")
    if math.isinf(value):
        return Text("slow", style="red")
    return Text(f"{value * 1000:.1f}", style="red" if value > GOAL_S else "")

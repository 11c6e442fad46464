"""`tabwise stats`: what was shown and taken, counted on this machine alone."""

from __future__ import annotations

import argparse
import datetime
import json
import sqlite3

import attrs

from tabwise_server.lsp.statistics import (
    CannotCount,
    Summary,
    clear,
    statistics_file,
    summarise,
)

_HEADER = "language", "shown", "accepted", "share", "partly", "rejected", "characters"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=int, help="of the latest days only")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument("--clear", action="store_true", help="forget all counts")


def run(arguments: argparse.Namespace) -> int:
    if arguments.clear:
        clear()
        return 0
    found = counted(first_day(arguments.days))
    if arguments.json:
        print(json.dumps([attrs.asdict(summary) for summary in found]))
    elif found:
        print(table(found))
    else:
        print(f"nothing was counted yet in {statistics_file()}")
    return 0


def first_day(days: int | None) -> str:
    """Of the latest so many days, today's among them; "" for all that there were."""
    if days is None:
        return ""
    try:
        first = datetime.date.today() - datetime.timedelta(days=days - 1)
    except OverflowError:
        return ""
    return first.isoformat()


def counted(since: str) -> list[Summary]:
    """As `summarise`. Raises CannotCount for a file that is damaged or locked."""
    try:
        return summarise(since)
    except sqlite3.Error as error:
        raise CannotCount(
            f"cannot read {statistics_file()}: {error}; if it is damaged, tabwise "
            "stats --clear begins anew"
        ) from error


def table(found: list[Summary]) -> str:
    """A line a language; latencies are bounds that so many answers kept."""
    rows: list[tuple[str, ...]] = [(*_HEADER, "median ms", "95 % ms")]
    rows += [_row(summary) for summary in found]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _row(summary: Summary) -> tuple[str, ...]:
    share = f"{summary.accepted / summary.shown:.0%}" if summary.shown else "–"
    counts = summary.partly, summary.rejected, summary.characters
    latencies = [f"<= {ms}" if ms else "–" for ms in (summary.p50_ms, summary.p95_ms)]
    first = summary.language, str(summary.shown), str(summary.accepted), share
    return (*first, *map(str, counts), *latencies)

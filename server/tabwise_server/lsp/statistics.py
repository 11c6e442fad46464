"""How often suggestions were shown and taken: counts in a file of this user's own,
written by all of the user's language servers, never sent anywhere.

No text, path or time of day is kept: a day, a language, counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import attrs

from tabwise_server.errors import SettingsError, TabwiseError
from tabwise_server.settings import state_folder

if TYPE_CHECKING:
    import sqlite3

Event = Literal["shown", "accepted", "partly", "rejected", "characters"]
EVENTS: tuple[Event, ...] = (
    "shown",
    "accepted",
    "partly",
    "rejected",
    "characters",
)
LATENCY = "latency <= "  # the name of a histogram's bucket, in milliseconds
BOUNDS_MS = (1, 2, 5, 10, 25, 50, 100, 200, 400, 1_000, 2_000, 5_000)
BUSY_S = 2.0
_TABLE = """
CREATE TABLE IF NOT EXISTS counts (
  day TEXT, language TEXT, name TEXT, count INTEGER,
  PRIMARY KEY (day, language, name)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO counts VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET count = count + excluded.count
"""

Key = tuple[str, str, str]  # day, language, name


@attrs.frozen(kw_only=True)
class Summary:
    """Of one language. p50_ms, p95_ms: upper bounds of all answers' latencies, None
    where nothing was asked."""

    language: str
    shown: int
    accepted: int
    partly: int
    rejected: int
    characters: int
    p50_ms: int | None
    p95_ms: int | None


def statistics_file() -> Path:
    return state_folder() / "statistics.sqlite3"


def bucket(latency_ms: float) -> str:
    """The name that a latency is counted under; the last bound holds all above it.

    >>> bucket(7)
    'latency <= 10'
    """
    bound = next((b for b in BOUNDS_MS if latency_ms <= b), BOUNDS_MS[-1])
    return f"{LATENCY}{bound}"


class CannotCount(TabwiseError):
    """The file of counts cannot be written: `tabwise stats --clear` begins anew."""


def add(counts: Mapping[Key, int], file: Path | None = None) -> None:
    """Add to the file's counts, all or none. Raises CannotCount."""
    if not counts:
        return
    import sqlite3  # 1.4 MB that a server without counts does not need

    try:
        with closing(_open(file)) as database, database:
            database.execute(_TABLE)
            rows = [(*key, count) for key, count in counts.items()]
            database.executemany(_ADD, rows)
    except (sqlite3.Error, OSError, SettingsError) as error:
        raise CannotCount(f"cannot write statistics: {error}") from error


def summarise(since: str = "", file: Path | None = None) -> list[Summary]:
    """By language, the most shown first. since: a day, "2026-11-23"."""
    file = file or statistics_file()
    if not file.exists():
        return []
    with closing(_open(file)) as database, database:
        database.execute(_TABLE)
        rows = database.execute(
            "SELECT language, name, SUM(count) FROM counts WHERE day >= ? "
            "GROUP BY language, name",
            (since,),
        ).fetchall()
    counts: dict[str, Counter[str]] = {}
    for language, name, count in rows:
        counts.setdefault(language, Counter())[name] += count
    found = [_summary(language, names) for language, names in counts.items()]
    return sorted(found, key=lambda s: (-s.shown, s.language))


def clear(file: Path | None = None) -> None:
    """Forget all counts."""
    (file or statistics_file()).unlink(missing_ok=True)


def _open(file: Path | None) -> sqlite3.Connection:
    import sqlite3

    file = file or statistics_file()
    if not file.exists():
        file.touch(mode=0o600)
    return sqlite3.connect(file, timeout=BUSY_S)


def _summary(language: str, names: Counter[str]) -> Summary:
    return Summary(
        language=language,
        **{event: names[event] for event in EVENTS},
        p50_ms=_percentile(names, 0.5),
        p95_ms=_percentile(names, 0.95),
    )


def _percentile(names: Counter[str], share: float) -> int | None:
    total = sum(count for _, count in _buckets(names))
    reached = 0
    for bound, count in _buckets(names):
        reached += count
        if total and reached >= share * total:
            return bound
    return None


def _buckets(names: Counter[str]) -> Iterator[tuple[int, int]]:
    for bound in BOUNDS_MS:
        yield bound, names[f"{LATENCY}{bound}"]

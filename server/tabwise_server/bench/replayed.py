"""What a replay of keystrokes found, and how it compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from tabwise_server.bench.editor import CACHED, PROMPT, Asked, Editor
from tabwise_server.bench.outcomes import Outcome, quantile


@attrs.frozen(kw_only=True)
class Report:
    """One system's run; times in milliseconds from asking to the answer.

    by_kind: (asked, median, 95th percentile) of each kind of stroke. from_memory: share
    of requests that did not reach the backend. cached_forward: share of prompt tokens
    found in the prefix cache while typing forward.
    """

    system: str
    strokes: int
    answered: int
    cancelled: int
    failed: int
    shown: int
    median_ms: float | None
    p95_ms: float | None
    by_kind: dict[str, tuple[int, float | None, float | None]]
    from_memory: float | None
    cached_forward: float | None
    cold_start_s: float
    server_mb: float | None
    backend_mb: float | None


def summarise(
    system: str,
    editor: Editor,
    cold_start_s: float,
    memory: tuple[float | None, float | None],
    reached: float | None,
) -> Report:
    """reached: requests that the backend has counted."""
    outcomes = [one.outcome for one in editor.asked]
    kinds = [outcome.kind for outcome in outcomes]
    prompt = editor.forward.get(PROMPT, 0.0)
    cached = editor.forward.get(CACHED, 0.0)
    return Report(
        system=system,
        strokes=len(kinds),
        answered=kinds.count("answered"),
        cancelled=kinds.count("cancelled"),
        failed=kinds.count("failed"),
        shown=sum(one.shown for one in editor.asked),
        median_ms=quantile(outcomes, 0.5),
        p95_ms=quantile(outcomes, 0.95),
        by_kind=by_kind(editor.asked),
        from_memory=None if reached is None else round(1 - reached / len(kinds), 3),
        cached_forward=round(cached / prompt, 4) if prompt else None,
        cold_start_s=round(cold_start_s, 2),
        server_mb=memory[0],
        backend_mb=memory[1],
    )


def by_kind(
    asked: Sequence[Asked],
) -> dict[str, tuple[int, float | None, float | None]]:
    groups: dict[str, list[Outcome]] = {}
    for one in asked:
        groups.setdefault(one.stroke.kind, []).append(one.outcome)
    return {
        kind: (len(some), quantile(some, 0.5), quantile(some, 0.95))
        for kind, some in groups.items()
    }


def ratios(reports: Sequence[Report]) -> dict[str, dict[str, float | None]]:
    """How many times as long as we each rival takes."""
    ours, *rivals = reports
    return {
        rival.system: {
            "median": _ratio(rival.median_ms, ours.median_ms),
            "p95": _ratio(rival.p95_ms, ours.p95_ms),
        }
        for rival in rivals
    }


def _ratio(theirs: float | None, ours: float | None) -> float | None:
    return round(theirs / ours, 2) if theirs and ours else None


def table(report: Report, ours: Report) -> Iterator[str]:
    """A run in lines, with its ratio to ours."""
    yield (
        f"{report.system}: {report.strokes} strokes, {report.answered} answered "
        f"({report.shown} with a suggestion), {report.cancelled} cancelled, "
        f"{report.failed} failed"
    )
    yield f"  {'':<12}{'asked':>7}{'median':>9}{'p95':>9} ms"
    rows = {"all": (report.strokes, report.median_ms, report.p95_ms), **report.by_kind}
    for kind, (asked, median, p95) in rows.items():
        yield f"  {kind:<12}{asked:>7}{median or '-':>9}{p95 or '-':>9}"
    if report is not ours:
        ratio = ratios([ours, report])[report.system]
        yield f"  times ours: median {ratio['median']}, p95 {ratio['p95']}"
    yield (
        f"  from memory {report.from_memory}, cached while typing forward "
        f"{report.cached_forward}, ready after {report.cold_start_s} s, "
        f"language server {report.server_mb} MB, backend {report.backend_mb} MB"
    )

"""A person at an editor, played to a real language server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs

from tabwise_server.bench.client import LspClient, ResponseError, inline_params
from tabwise_server.bench.outcomes import Outcome
from tabwise_server.bench.typist import Stroke

LAST_S = 2.0  # for the last answer, behind which nobody types
PROMPT = "tabwise_engine_prompt_tokens_total"
CACHED = "tabwise_engine_cached_tokens_total"

Counters = Callable[[], Awaitable[dict[str, float]]]


@attrs.frozen(kw_only=True)
class Asked:
    """One stroke's request. shown: a suggestion came."""

    stroke: Stroke
    outcome: Outcome
    shown: bool


@attrs.define
class Editor:
    """The client's side: its files by their URIs, and what it has asked."""

    client: LspClient
    uris: Sequence[str]
    texts: list[str]
    counters: Counters | None = None
    asked: list[Asked] = attrs.Factory(list)
    forward: dict[str, float] = attrs.Factory(dict)
    versions: dict[int, int] = attrs.Factory(dict)
    _forward_since: dict[str, float] | None = None

    async def type(self, strokes: Sequence[Stroke], speed: float) -> None:
        """Do the strokes at their times, `speed` times as fast."""
        for uri, text in zip(self.uris, self.texts, strict=True):
            self.client.open(uri, text)
        last = len(strokes) - 1
        for number, stroke in enumerate(strokes):
            began = time.perf_counter()
            await self._count(stroke.forward)
            patience_s = LAST_S if number == last else stroke.gap_s / speed
            await self._stroke(stroke, patience_s)
            rest_s = stroke.gap_s / speed - (time.perf_counter() - began)
            await asyncio.sleep(max(rest_s, 0.0))
        await self._count(False)

    async def _stroke(self, stroke: Stroke, patience_s: float) -> None:
        at = self._apply(stroke)
        began = time.perf_counter()
        params = inline_params(self.uris[stroke.file], at)
        number, answer = self.client.ask("textDocument/inlineCompletion", params)
        await asyncio.wait({answer}, timeout=patience_s)
        latency_s = time.perf_counter() - began
        shown = False
        if not answer.done():
            self.client.notify("$/cancelRequest", {"id": number})
            answer.add_done_callback(_look_away)
            outcome = Outcome(latency_s, "cancelled")
        elif isinstance(answer.exception(), ResponseError):
            outcome = Outcome(latency_s, "failed")
        else:
            shown = bool(answer.result())
            outcome = Outcome(latency_s, "answered")
        self.asked.append(Asked(stroke=stroke, outcome=outcome, shown=shown))

    def _apply(self, stroke: Stroke) -> tuple[int, int]:
        """Make the edit here and there; returns the cursor's place afterwards."""
        text = self.texts[stroke.file]
        if stroke.kind != "jump":
            version = self.versions[stroke.file] = self.versions.get(stroke.file, 1) + 1
            start, end = place_of(text, stroke.start), place_of(text, stroke.end)
            uri = self.uris[stroke.file]
            self.client.change(uri, version, stroke.text, start, end)
            text = text[: stroke.start] + stroke.text + text[stroke.end :]
            self.texts[stroke.file] = text
        return place_of(text, stroke.start + len(stroke.text))

    async def _count(self, forward: bool) -> None:
        """Take the backend's counters where typing forward begins and ends."""
        if self.counters is None or forward is (self._forward_since is not None):
            return
        now = await self.counters()
        if self._forward_since is None:
            self._forward_since = now
            return
        for name in (PROMPT, CACHED):
            grown = now.get(name, 0.0) - self._forward_since.get(name, 0.0)
            self.forward[name] = self.forward.get(name, 0.0) + grown
        self._forward_since = None


def place_of(text: str, offset: int) -> tuple[int, int]:
    """(line, UTF-16 column) of an offset in code points."""
    start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset), len(text[start:offset].encode("utf-16-le")) // 2


def _look_away(answer: asyncio.Future[Any]) -> None:
    """A cancelled request's error is none of ours."""
    if not answer.cancelled():
        answer.exception()

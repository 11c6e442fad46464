"""An answer of a foreign server, put together as it streams in."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import attrs

from tabwise_server.backends.ending import find_end, find_marker
from tabwise_server.wire import CompletionResponse, FinishKind, StopKind, Timings


@attrs.define
class Answer:
    """Text and log-probabilities so far, cut where a completion of this kind ends.

    min_confidence: a first line less probable is not wanted, and ends it with an empty
    text as soon as it cannot be as probable. markers: the model's own sentinels, which
    end it and are never shown. model: as the server calls it. Times are monotonic
    seconds.
    """

    stop: StopKind
    block_indent: int
    min_confidence: float = 0.0
    markers: Sequence[str] = ()
    model: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    _text: str = ""
    _finish: FinishKind = "end"
    _pieces: int = 0
    _logprobs: list[tuple[int, float]] = attrs.Factory(list)  # (offset, natural log)
    _offset: int = 0  # in the text, where the next token begins
    _began: float = attrs.Factory(time.monotonic)
    _first: float | None = None

    def add(self, text: str, logprobs: Sequence[tuple[str, float]] = ()) -> bool:
        """Take in a piece with its tokens; True when it has ended and the rest is not
        wanted."""
        if self._first is None:
            self._first = time.monotonic()
        for token, logprob in logprobs:  # which may come ahead of the text
            self._logprobs.append((self._offset, logprob))
            self._offset += len(token)
        self._pieces += bool(text)
        self._text += text
        return self._give_up() or self._cut()

    def end(self, *, by_length: bool) -> None:
        """The server has ended it by itself."""
        self._finish = "length" if by_length else "end"

    def response(self) -> CompletionResponse:
        now = time.monotonic()
        first = self._first or now
        kept = [log for at, log in self._logprobs if at < len(self._text)]
        return CompletionResponse(
            text=self._text,
            finish=self._finish,
            tokens=len(kept) or self._pieces,
            mean_logprob=sum(kept) / max(len(kept), 1),
            min_logprob=min(kept, default=0.0),
            confidence=self._confidence() if self._text else 0.0,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            model=self.model,
            timings=Timings(
                queue_ms=0.0,
                prefill_ms=_milliseconds(first - self._began),
                decode_ms=_milliseconds(now - first),
                latency_ms=_milliseconds(now - self._began),
            ),
        )

    def _confidence(self) -> float:
        """The probability of the first line, as far as it has come; 1.0 where the
        server tells no log-probabilities."""
        end = find_end(self._text, "line", 0)
        known = (log for at, log in self._logprobs if end is None or at < end)
        return math.exp(min(sum(known), 0.0))

    def _give_up(self) -> bool:
        if self._confidence() >= self.min_confidence:
            return False
        self._text, self._finish = "", "unsure"
        return True

    def _cut(self) -> bool:
        marker = find_marker(self._text, self.markers)
        if marker is not None:
            self._text, self._finish = self._text[:marker], "end"
        end = find_end(self._text, self.stop, self.block_indent)
        if end is not None:
            self._text = self._text[:end]
            self._finish = "line" if self.stop == "line" else "block"
        return marker is not None or end is not None


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)

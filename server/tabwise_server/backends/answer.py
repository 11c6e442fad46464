"""An answer of a foreign server, put together as it streams in."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import cached_property

import attrs

from tabwise_server.backends.beginning import likely_beginning
from tabwise_server.backends.ending import block_indent, find_end, find_marker
from tabwise_server.backends.tokens import Token
from tabwise_server.wire import (
    CompletionRequest,
    CompletionResponse,
    FinishKind,
    Timings,
)


@attrs.define(slots=False)
class Answer:
    """Text and log-probabilities so far, cut where a completion of this kind ends.

    A first line less probable than `asked` wants ends it as soon as it cannot be as
    probable: with its beginning where that is likely enough, else with an empty text.
    markers: the model's own sentinels, which end it and are never shown. model: as the
    server calls it. Times are monotonic seconds.
    """

    asked: CompletionRequest
    markers: Sequence[str] = ()
    model: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    _text: str = ""
    _finish: FinishKind = "end"
    _pieces: int = 0
    _tokens: list[Token] = attrs.Factory(list)
    _starts: list[int] = attrs.Factory(list)  # in the text, of each
    _offset: int = 0  # where the next one begins
    _began: float = attrs.Factory(time.monotonic)
    _first: float | None = None

    @cached_property
    def _indent(self) -> int:
        return block_indent(self.asked.prefix)

    def add(self, text: str, tokens: Sequence[Token] = ()) -> bool:
        """Take in a piece with its tokens; True when it has ended and the rest is not
        wanted."""
        if self._first is None:
            self._first = time.monotonic()
        for token in tokens:  # which may come ahead of the text
            self._tokens.append(token)
            self._starts.append(self._offset)
            self._offset += len(token.text)
        self._pieces += bool(text)
        self._text += text
        return self._give_up() or self._cut()

    def end(self, *, by_length: bool) -> None:
        """The server has ended it by itself."""
        self._finish = "length" if by_length else "end"

    def response(self) -> CompletionResponse:
        now = time.monotonic()
        first = self._first or now
        kept = self._logprobs(len(self._text))
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
        text = self._text
        end = len(text) if self._finish == "part" else find_end(text, "line", 0)
        return math.exp(min(sum(self._logprobs(end)), 0.0))

    def _logprobs(self, end: int | None) -> list[float]:
        """Of the tokens that begin before `end`."""
        pairs = zip(self._starts, self._tokens, strict=True)
        return [token.logprob for at, token in pairs if end is None or at < end]

    def _give_up(self) -> bool:
        if self._confidence() >= self.asked.min_confidence:
            return False
        least = self.asked.min_part_confidence
        part = "" if least is None else likely_beginning(self._tokens, least)
        # tokens that hold half a character are told otherwise than they are written
        self._text = part if self._text.startswith(part) else ""
        self._finish = "part" if self._text else "unsure"
        return True

    def _cut(self) -> bool:
        marker = find_marker(self._text, self.markers)
        if marker is not None:
            self._text, self._finish = self._text[:marker], "end"
        stop = self.asked.stop
        end = find_end(self._text, stop, self._indent)
        if end is not None:
            self._text = self._text[:end]
            self._finish = "line" if stop == "line" else "block"
        return marker is not None or end is not None


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)

"""What the engine is asked and what it answers. Pure data: no tensors, no threads."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import attrs

from tabwise_model.copying import CopySource


class Stop(Enum):
    """Where a completion ends, besides its end token and its token limit."""

    LINE = "line"  # before the first newline that follows something visible
    BLOCK = "block"  # where the code leaves the block that the cursor stands in
    NONE = "none"


class Finish(Enum):
    """Why a generation ended."""

    END = "end"  # the model produced an end token
    LINE = "line"
    BLOCK = "block"
    LENGTH = "length"  # max_new_tokens, or the slot's capacity
    STOP = "stop"  # before one of `GenerationRequest.stop_texts`
    PART = "part"  # the rest of the line is not as likely as was asked for
    UNSURE = "unsure"  # not even its beginning is
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # the deadline passed
    FAILED = "failed"  # the runner raised; `Generation.error` says what


@attrs.frozen(kw_only=True)
class Sampling:
    """temperature 0 is greedy; top_k None keeps every token; seed None draws one.

    top_p: of the top_k, the likeliest that together have this share are kept.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int | None = None


@attrs.frozen(kw_only=True)
class Search:
    """Look for the likeliest line (see `search.py`), for greedy requests that stop at a
    line's or a block's end; a block is searched line by line.

    width: unfinished lines kept. min_probability: a line less likely is not wanted, and
    the search ends as soon as none can be as likely. min_part_probability: if there is
    none, of a line's beginning, up to the end of a word; None: no beginnings.
    """

    width: int = 4
    min_probability: float = 0.0
    min_part_probability: float | None = None


@attrs.frozen(kw_only=True)
class Line:
    """A line that a search found; `logprobs` are those of its tokens, `probability` is
    that of the line and its end, by whatever tokens. written: what another line goes on
    behind: its tokens, those that were written again before the cursor, a line break.
    """

    text: bytes
    tokens: list[int]
    logprobs: list[float]
    written: list[int]
    probability: float
    finish: Finish


@attrs.frozen
class Progress:
    """What a request has so far, and will keep: text (bytes, may end inside a UTF-8
    character), and its tokens with their natural-log probabilities and where in the
    text each begins."""

    text: bytes
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    begins: tuple[int, ...]


@attrs.frozen(kw_only=True)
class GenerationRequest:
    """One sequence to continue.

    prompt: token ids, at least one. owner: keys and values are shared among one
    owner's requests only. Owners take turns, and so do an owner's sessions (None: a
    session of its own). deadline: engine clock seconds (time.monotonic) after which
    work is dropped, None for no deadline.
    block_indent: columns of indentation of the cursor's line, for Stop.BLOCK.
    heal: bytes that the generation must begin with; they stand before the cursor
    already, so they are no part of the result (see `healing.py`).
    search: None takes one token at a time, by `sampling`. copy: texts whose repetition
    counts as a second opinion (see `copying.py`).
    stop_texts: the text ends before the first of them. progress: called in the engine's
    thread after each token, for requests without a search that stop at nothing else.
    """

    id: str
    prompt: tuple[int, ...]
    heal: bytes = b""
    max_new_tokens: int = 50
    sampling: Sampling = Sampling()
    stop: Stop = Stop.NONE
    block_indent: int = 0
    owner: str = ""
    session: str | None = None
    deadline: float | None = None
    search: Search | None = None
    copy: CopySource | None = None
    stop_texts: tuple[bytes, ...] = ()
    progress: Callable[[Progress], None] | None = None


@attrs.define(kw_only=True)
class Generation:
    """What became of one request; filled in by the engine.

    text: bytes of the completion, cut at its stop (may end inside a UTF-8 character).
    tokens: those that begin before the cut; the last may reach past it, when a newline
    stands inside it. logprobs: one natural-log probability per kept token, at
    temperature 1. begins: bytes of text before each kept token, none of a search's.
    probability: of the line that a search found, the least of a block's
    lines, None without a search; alternatives: the other lines that it found. Times
    are seconds.
    """

    id: str
    finish: Finish
    tokens: list[int] = attrs.Factory(list)
    logprobs: list[float] = attrs.Factory(list)
    begins: list[int] = attrs.Factory(list)
    text: bytes = b""
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, found in the slot's KV
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    error: str | None = None
    probability: float | None = None
    alternatives: list[Line] = attrs.Factory(list)

"""From texts to the tokens a model completes, within its window.

The order is: chunks of other files, then suffix, prefix, middle (see `fim.py`). What
does not fit is dropped from the far ends: context first, then the beginning of the
prefix and the end of the suffix.
The prefix's left edge moves in large steps, so that typing on only
appends to what the prefix cache holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from tabwise_model.fim import render_context, render_spm
from tabwise_model.tokenizer import Tokenizer

SUFFIX_SHARE = 4  # the suffix may take a quarter of the window
CONTEXT_SHARE = 4  # and so may all chunks of other files together
SENTINELS_USED = 3
MIN_WINDOW = 32
MAX_HEALED = 8  # tokens written again; each costs a decode step
CHARS_PER_TOKEN = 8  # far more than any code has; bounds the text that is tokenised


@attrs.frozen
class Prompt:
    """What a model is given, and the bytes its answer must begin with."""

    ids: tuple[int, ...]
    heal: bytes


def fim_prompt(
    tokenizer: Tokenizer,
    prefix: str,
    suffix: str,
    context: Sequence[tuple[str, str]] = (),
    *,
    window: int,
) -> Prompt:
    """The fill-in-the-middle prompt of at most `window` tokens.

    context: (path, text), the most useful last; a chunk that does not fit is left out.
    Raises ValueError if `window` is under 32.
    """
    if window < MIN_WINDOW:
        raise ValueError(f"window must be at least {MIN_WINDOW} tokens, got {window}")
    seen = tokenizer.encode_by_paragraphs(suffix[: window * CHARS_PER_TOKEN])
    after: list[int] = seen[: window // SUFFIX_SHARE].tolist()
    chunks = _context_ids(tokenizer, context, window // CONTEXT_SHARE)
    room = window - len(after) - len(chunks) - SENTINELS_USED
    before, heal = _healed_tail(tokenizer, prefix, room)
    return Prompt((*chunks, *render_spm(tokenizer, before, after)), heal)


def plain_prompt(tokenizer: Tokenizer, code: str, *, window: int) -> Prompt:
    """The last tokens of `code`, to be continued left to right, after an END if it is
    empty."""
    ids, heal = _healed_tail(tokenizer, code, window)
    return Prompt(tuple(ids) or (tokenizer.end,), heal)


def _healed_tail(tokenizer: Tokenizer, text: str, room: int) -> tuple[list[int], bytes]:
    """The end of `text` without its last piece, and that piece's bytes. Of a long piece
    only the last tokens are taken back."""
    piece = tokenizer.last_piece(text)
    ids = tokenizer.encode(piece)
    kept, taken = ids[:-MAX_HEALED][-room:], ids[-MAX_HEALED:]
    before = anchored_tail(tokenizer, text[: len(text) - len(piece)], room - len(kept))
    return before + kept, tokenizer.decode_bytes(taken)


def anchored_tail(tokenizer: Tokenizer, text: str, room: int) -> list[int]:
    """The end of `text` in at most `room` tokens, cut at every room/2-th character.

    The cut is the first such place from which the rest fits. It is counted from the
    beginning of the text, so it stays where it is until about an eighth of the window
    has been typed.
    """
    if room < 1:
        return []
    step = max(1, room // 2)
    start = _cut(len(text) - room * CHARS_PER_TOKEN, step)
    ids = tokenizer.encode_by_paragraphs(text[start:])
    if len(ids) > room:
        start = len(text) - tokenizer.count_characters(ids[-room:])
    while len(ids) > room:
        start = _cut(start, step)
        ids = tokenizer.encode_by_paragraphs(text[start:])
        start += 1
    found: list[int] = ids.tolist()
    return found


def _cut(place: int, step: int) -> int:
    """The first multiple of `step` at or after `place`, at least 0."""
    return max(0, -(-place // step) * step)


def _context_ids(
    tokenizer: Tokenizer, context: Sequence[tuple[str, str]], room: int
) -> list[int]:
    kept: list[int] = []
    for path, text in reversed(context):
        ids = render_context(tokenizer, path, text[: room * CHARS_PER_TOKEN])
        if len(kept) + len(ids) <= room:
            kept = ids + kept
    return kept

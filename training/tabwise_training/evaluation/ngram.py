"""An n-gram model with back-off: what counting alone predicts.

Counts come from a sample of a prepared corpus and from the file itself before the
cursor. The sample's positions are sorted by the tokens before them, nearest first, so
all places of a context are one range, found by binary search: six bytes a token, for
every order at once (and some 20 while they are sorted). Greedy, longest context first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tabwise_model.healing import TokenIndex
from tabwise_model.tokenizer import Tokenizer
from tabwise_training.calibration import check_vocabulary
from tabwise_training.errors import TrainingError
from tabwise_training.evaluation.positions import Position

ORDER = 6  # tokens, the predicted one among them
SAMPLE_TOKENS = 5_000_000
MOST_COUNTED = 20_000  # places of a context
MAX_NEW_TOKENS = 48
FILE_WEIGHT = 4  # one place in the file counts as so many in the sample
WINDOW_CHARS = 20_000

Ids = npt.NDArray[np.int64]


class NGram:
    """Predicts the next token from the tokens before it."""

    def __init__(self, sample: npt.NDArray[np.uint16], vocab: int) -> None:
        self._tokens = sample
        self._vocab = vocab
        places = np.arange(ORDER - 1, len(sample), dtype=np.int32)
        columns = [sample[places - k] for k in range(ORDER - 1, 0, -1)]
        self._order = places[np.lexsort(columns)]
        nearest = sample[self._order - 1]
        self._alone = np.bincount(sample, minlength=vocab)
        self._first = np.searchsorted(nearest, np.arange(vocab + 1))

    def next(self, before: Ids, allowed: npt.NDArray[np.intp] | None) -> int | None:
        """The likeliest token after `before` (the file so far), of the allowed ones."""
        spans = self._spans(before[-(ORDER - 1) :])
        for k in range(len(spans), -1, -1):
            counts = self._counts(*spans[k - 1]) if k else self._alone
            own = np.bincount(_followers(before, k), minlength=self._vocab)
            counts = counts + FILE_WEIGHT * own
            if allowed is not None:
                counts = np.where(np.isin(np.arange(self._vocab), allowed), counts, 0)
            if counts.any():
                return int(counts.argmax())
        return None

    def _spans(self, context: Ids) -> list[tuple[int, int]]:
        """The range of sorted places for the last 1, 2, ... tokens of the context."""
        if not len(context):
            return []
        low, high = map(int, self._first[context[-1] : context[-1] + 2])
        found = [(low, high)]
        for back in range(2, len(context) + 1):
            column = self._tokens[self._order[low:high] - back]
            token = context[-back]
            low, high = (
                low + int(np.searchsorted(column, token, "left")),
                low + int(np.searchsorted(column, token, "right")),
            )
            found.append((low, high))
        return found

    def _counts(self, low: int, high: int) -> npt.NDArray[np.int64]:
        step = max(1, (high - low) // MOST_COUNTED)
        followers = self._tokens[self._order[low:high:step]]
        return np.bincount(followers, minlength=self._vocab)


def load_ngram(
    folder: Path, tokenizer: Tokenizer, sample_tokens: int = SAMPLE_TOKENS
) -> NGram:
    """Of tokens spread evenly over a prepared corpus's train split.

    Raises TrainingError if it has another vocabulary, or holds nothing.
    """
    check_vocabulary(folder, tokenizer)
    try:
        tokens = np.memmap(folder / "train.bin", dtype=np.uint16, mode="r")
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{folder / 'train.bin'}: {error}; run `tabwise prepare` again"
        ) from error
    parts = 50
    size = sample_tokens // parts
    starts = np.linspace(0, max(0, len(tokens) - size), parts).astype(int)
    if len(tokens) <= sample_tokens:
        return NGram(np.array(tokens), tokenizer.vocab_size)
    sample = np.concatenate([tokens[start : start + size] for start in starts])
    return NGram(sample, tokenizer.vocab_size)


def complete_by_counts(
    model: NGram, tokenizer: Tokenizer, index: TokenIndex, position: Position
) -> str:
    """The rest of the line by the model, beginning inside a token where that is so."""
    text = position.prefix[-WINDOW_CHARS:]
    heal = tokenizer.last_piece(text).encode()
    head = text[: len(text) - len(tokenizer.last_piece(text))]
    before = [tokenizer.end, *tokenizer.encode(head)]
    pieces = tokenizer.token_bytes()
    said = b""
    for _ in range(MAX_NEW_TOKENS):
        left = heal[len(said) :]
        token = _next_healed(model, tokenizer, index, np.array(before), left)
        if token is None or token in tokenizer.sentinels:
            break
        before.append(token)
        said += pieces[token]
        if b"\n" in said[len(heal) :].lstrip():
            break
    return _first_line(said[len(heal) :].decode("utf-8", "ignore"))


def _next_healed(
    model: NGram, tokenizer: Tokenizer, index: TokenIndex, before: Ids, left: bytes
) -> int | None:
    """The next token where the text goes on with `left`: one that covers it if any was
    counted, else one of the plain encoding."""
    if not left:
        return model.next(before, None)
    pieces = tokenizer.token_bytes()
    covering = [i for i in index.allowed(left) if pieces[i].startswith(left)]
    token = model.next(before, np.array(covering, np.intp))
    if token is None:
        plain = tokenizer.encode(left.decode("utf-8", "ignore"))
        return plain[0] if plain else None
    return token


def complete_all_by_counts(
    model: NGram, tokenizer: Tokenizer, positions: Sequence[Position]
) -> list[str]:
    index = TokenIndex(tokenizer.token_bytes())
    return [complete_by_counts(model, tokenizer, index, p) for p in positions]


def _first_line(text: str) -> str:
    """Up to the newline after something visible."""
    blank = len(text) - len(text.lstrip())
    end = text.find("\n", blank)
    return text if end < 0 else text[:end]


def _followers(tokens: Ids, k: int) -> Ids:
    """The tokens that followed earlier occurrences of the last k tokens."""
    if len(tokens) <= k:
        return tokens[:0]
    same = np.ones(len(tokens) - k, bool)
    for back in range(1, k + 1):
        same &= tokens[k - back : len(tokens) - back] == tokens[-back]
    return tokens[k:][same]

"""Training our byte-level BPE with the `tokenizers` library; tiktoken's form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Trained

from tabwise_model.tokenizer import SENTINELS, SPLIT_PATTERN, Tokenizer
from tabwise_training.errors import CorpusError

SMALLEST = 256 + len(SENTINELS)
LARGEST = 1 << 16  # ids are stored in 16 bits


def train_bpe(texts: Iterable[str], vocab_size: int) -> tuple[Tokenizer, Trained]:
    """A tokenizer with exactly `vocab_size` ids, sentinels included, and its origin.

    Raises CorpusError if the size is out of range or the texts too few for it.
    """
    if not SMALLEST <= vocab_size <= LARGEST:
        raise CorpusError(
            f"the vocabulary must be {SMALLEST}..{LARGEST} ids, got {vocab_size}"
        )
    trained = Trained(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SENTINELS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    tokenizer = Tokenizer(ranks_of(trained))
    if tokenizer.vocab_size != vocab_size:
        raise CorpusError(
            f"the corpus is too small for {vocab_size} ids: it gives "
            f"{tokenizer.vocab_size}; add text or lower --vocab-size"
        )
    return tokenizer, trained


def ranks_of(trained: Trained) -> dict[bytes, int]:
    """tiktoken ranks of a byte-level BPE: the bytes, then its merges in order."""
    model: dict[str, Any] = json.loads(trained.to_str())["model"]
    to_byte = _byte_of_letter()
    ranks = {bytes([b]): b for b in range(256)}
    for left, right in model["merges"]:
        piece = bytes(to_byte[letter] for letter in left + right)
        ranks.setdefault(piece, len(ranks))
    return ranks


def first_disagreement(
    tokenizer: Tokenizer, trained: Trained, texts: Sequence[str]
) -> str | None:
    """The first text that the two cut into other pieces, or that does not come back."""
    to_byte = _byte_of_letter()
    pieces = tokenizer.token_bytes()
    for text in texts:
        ids = tokenizer.encode(text)
        theirs = [
            bytes(map(to_byte.__getitem__, t)) for t in trained.encode(text).tokens
        ]
        if [pieces[i] for i in ids] != theirs or tokenizer.decode(ids) != text:
            return text
    return None


def _byte_of_letter() -> dict[str, int]:
    """GPT-2's printable stand-in letters -> the bytes that they stand for."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in kept]
    letters = {chr(b): b for b in kept}
    letters.update({chr(256 + i): b for i, b in enumerate(others)})
    return letters

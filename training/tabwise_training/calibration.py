"""Code on which a model's weights are weighed, as rows of a training batch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.tokenizer import Tokenizer
from tabwise_training.data import DataConfig, Rows
from tabwise_training.errors import TrainingError
from tabwise_training.prepare import load_tokenizer
from tabwise_training.tuning.general import standard_library
from tabwise_training.tuning.repository import Text
from tabwise_training.tuning.rows import (
    SHARD_TOKENS,
    endless_rows,
    take,
    write_documents,
)

CHARS = 8  # of the standard library's for each id of the rows: more than they need


def calibration_rows(
    checkpoint: Checkpoint, folder: Path | None, count: int, seed: int = 1
) -> Rows:
    """(count, block + 1) ids, plain and in the middle filled, the same for the same
    seed.

    folder: a prepared corpus, of which the training split is taken; None for the
    standard library. Raises TrainingError if it has another vocabulary.
    """
    config = DataConfig(seed=seed, shard_tokens=SHARD_TOKENS)
    block = checkpoint.config.block_size
    with tempfile.TemporaryDirectory(prefix="tabwise-calibration-") as scratch:
        if folder is None:
            folder = Path(scratch)
            texts = _some(standard_library().train, count * block * CHARS, seed)
            write_documents(folder, checkpoint.tokenizer, texts)
        else:
            check_vocabulary(folder, checkpoint.tokenizer)
        rows = endless_rows(folder, checkpoint.tokenizer, config, block)
        return take(rows, count)


def _some(texts: Sequence[Text], chars: int, seed: int) -> list[Text]:
    """Of the texts in a random order, enough for so many characters."""
    found: list[Text] = []
    for index in np.random.default_rng(seed).permutation(len(texts)):
        if chars <= 0:
            break
        found.append(texts[index])
        chars -= len(texts[index][1])
    return found


def check_vocabulary(folder: Path, tokenizer: Tokenizer) -> None:
    """Raise TrainingError if a prepared corpus has other ids than the checkpoint, or
    cuts text in another way."""
    prepared = load_tokenizer(folder)
    if prepared.is_same(tokenizer):
        return
    same = prepared.dumps() == tokenizer.dumps()
    other = "split pattern" if same else "vocabulary"
    raise TrainingError(
        f"{folder} has another {other} than the checkpoint; prepare it with "
        "`tabwise prepare --tokenizer` and that of the checkpoint"
    )

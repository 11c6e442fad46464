"""Bits per byte of held-out text under a runner."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tabwise_model.runners.protocol import Chunk, Runner
from tabwise_model.tokenizer import Tokenizer


def bits_per_byte(
    runner: Runner, tokenizer: Tokenizer, texts: Sequence[str], max_bytes: int
) -> tuple[float, int]:
    """(bits per byte, bytes) of the texts, in windows of a slot with no overlap.

    Each window begins with END, so every byte is predicted; counting stops after
    `max_bytes`. Uses slot 0.
    """
    width = min(runner.slot_tokens, runner.config.block_size) - 1
    nats, total = 0.0, 0
    for text in texts:
        ids = tokenizer.encode(text)
        for start in range(0, len(ids), width):
            window = ids[start : start + width]
            nats += _nats(runner, [tokenizer.end, *window])
            total += len(tokenizer.decode_bytes(window))
            if total >= max_bytes:
                return nats / math.log(2) / total, total
    return nats / math.log(2) / max(1, total), total


def _nats(runner: Runner, ids: list[int]) -> float:
    """Summed negative log-likelihood of ids[1:] given what stands before each."""
    logits = runner.extend_all(Chunk(0, 0, tuple(ids[:-1]))).astype(np.float64)
    top = logits.max(axis=1)
    norm = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    return float((norm - logits[np.arange(len(ids) - 1), ids[1:]]).sum())

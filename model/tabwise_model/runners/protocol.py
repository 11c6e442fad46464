"""The seam between the engine and what multiplies matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_model.config import ModelConfig


@attrs.frozen
class Chunk:
    """Tokens to append to one slot.

    start: tokens of the slot that are valid before this chunk; whatever the slot held
    from `start` on is overwritten.
    """

    slot: int
    start: int
    tokens: tuple[int, ...]


Logits = npt.NDArray[np.float32]


class Runner(Protocol):
    """A model with `n_slots` KV slots of `slot_tokens` tokens each.

    Called from one thread only. A chunk of one token is a decode step; a longer one is
    prefill, or tokens to verify. Every chunk of a call names another slot.
    """

    config: ModelConfig
    device: str  # "cpu", "cuda", ...
    n_slots: int
    slot_tokens: int

    @staticmethod
    def kv_bytes_per_token(config: ModelConfig) -> int:
        """Bytes that one token's keys and values take, all layers."""
        ...

    def extend(self, chunks: Sequence[Chunk]) -> Logits:
        """Append each chunk to its slot. Returns (len(chunks), V) logits, each those
        after its chunk's last token; the array may be reused by the next call."""
        ...

    def extend_all(self, chunk: Chunk) -> Logits:
        """Append one chunk; returns (T, V) logits after each of its tokens."""
        ...

    def copy_slot(self, source: int, target: int, tokens: int, start: int = 0) -> None:
        """Make the first `tokens` tokens of `target` those of `source`; the first
        `start` of them are already."""
        ...

"""A runner whose logits depend on every token that its slots really hold."""

from collections.abc import Sequence

import attrs
import numpy as np

from support.models import LLAMA
from tabwise_model.config import ModelConfig
from tabwise_model.runners.protocol import Chunk, Logits


class HashRunner:
    """Stores tokens a slot; logits are a hash of the slot's content, so that any slip
    in the engine's bookkeeping changes the output. `calls` keeps what was asked."""

    def __init__(
        self,
        *,
        n_slots: int = 4,
        slot_tokens: int = 64,
        config: ModelConfig = LLAMA,
    ) -> None:
        self.config = config
        self.device = "cpu"
        self.n_slots = n_slots
        self.slot_tokens = slot_tokens
        self.held: list[list[int]] = [[] for _ in range(n_slots)]
        self.calls: list[list[Chunk]] = []
        self.fail_next: Exception | None = None

    @staticmethod
    def kv_bytes_per_token(config: ModelConfig) -> int:
        return 8

    def extend(self, chunks: Sequence[Chunk]) -> Logits:
        self.calls.append(list(chunks))
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        assert len({chunk.slot for chunk in chunks}) == len(chunks)
        return np.stack([self._append(chunk) for chunk in chunks])

    def extend_all(self, chunk: Chunk) -> Logits:
        singles = [
            attrs.evolve(chunk, start=chunk.start + i, tokens=(token,))
            for i, token in enumerate(chunk.tokens)
        ]
        return np.stack([self._append(single) for single in singles])

    def copy_slot(self, source: int, target: int, tokens: int, start: int = 0) -> None:
        assert start <= tokens <= len(self.held[source])
        assert self.held[target][:start] == self.held[source][:start]
        self.held[target] = self.held[source][:tokens]

    def adopt(self, other: "HashRunner", lengths: Sequence[int]) -> None:
        self.held = [held[:n] for held, n in zip(other.held, lengths, strict=True)]

    def _append(self, chunk: Chunk) -> Logits:
        held = self.held[chunk.slot]
        assert chunk.start <= len(held), "a hole in the slot"
        assert chunk.start + len(chunk.tokens) <= self.slot_tokens, "past the slot"
        assert chunk.tokens
        held[chunk.start :] = chunk.tokens
        rng = np.random.default_rng(held)
        return rng.normal(size=self.config.vocab_size).astype(np.float32)

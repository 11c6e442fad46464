"""Keys and values of every slot and layer, in contiguous memory."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from tabwise_model.config import ModelConfig


class Past(Protocol):
    """What a forward pass over new tokens needs to know of those before them.

    positions: (B or 1, T) of the new tokens. mask: (B or 1, 1, T, total), which keys
    each may see, as `scaled_dot_product_attention` takes it.
    """

    positions: Tensor
    mask: Tensor

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (B, KV, T, D) of `layer` behind the earlier ones: (B, KV, total, D)."""
        ...


class KVCache:
    """(layer, slot, KV head, token, D) keys and values, allocated once.

    A slot's first `length` tokens are valid; the engine keeps the lengths.
    """

    def __init__(
        self,
        config: ModelConfig,
        n_slots: int,
        slot_tokens: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        shape = (
            config.n_layer,
            n_slots,
            config.n_kv_head,
            slot_tokens,
            config.head_size,
        )
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)

    def copy(self, source: int, target: int, tokens: int, start: int = 0) -> None:
        """Make tokens `start` to `tokens` of slot `target` those of `source`."""
        for kept in (self.keys, self.values):
            kept[:, target, :, start:tokens] = kept[:, source, :, start:tokens]


class SlotView:
    """Some slots of a cache for one forward pass: row b of the batch is slots[b].

    starts: (B,) tokens already valid in each. Every row appends the same T tokens'
    worth; the pass attends to the first `total` tokens of each slot, max(starts) + T
    unless a larger number is given.
    """

    def __init__(
        self,
        cache: KVCache,
        slots: Tensor,
        starts: Tensor,
        new_tokens: int,
        total: int | None = None,
    ) -> None:
        self._cache = cache
        self._slots = slots
        self.positions = starts[:, None] + torch.arange(  # (B, T)
            new_tokens, device=starts.device
        )
        self.total = total or int(starts.max()) + new_tokens
        keys_at = torch.arange(self.total, device=starts.device)
        # (B, 1, T, total): a query sees every key at or before its own position
        self.mask = (keys_at <= self.positions[:, :, None])[:, None]

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k, v (B, KV, T, D) of `layer`; returns all (B, KV, total, D)."""
        found = []
        for kept, new in ((self._cache.keys, k), (self._cache.values, v)):
            # advanced indices first: (B, T, KV, D)
            kept[layer][self._slots[:, None], :, self.positions] = new.transpose(1, 2)
            found.append(kept[layer][self._slots, :, : self.total])
        return found[0], found[1]

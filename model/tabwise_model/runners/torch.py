"""The torch runner: GPUs, machines without the native library, and the reference.

On a CPU INT8 weights are read as float32, so its logits are exactly those of the stored
weights. On a GPU steps have fixed shapes (`fixed_steps.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.config import ModelConfig
from tabwise_model.gpt import GPT
from tabwise_model.kv_cache import KVCache, SlotView
from tabwise_model.quantize import dequantize_checkpoint, expand_int4
from tabwise_model.runners.fixed_steps import LONGEST, FixedSteps
from tabwise_model.runners.int8_torch import Int8GPT
from tabwise_model.runners.protocol import Chunk, Logits


class TorchRunner:
    """See `protocol.Runner`. device: auto, cpu, cuda, ...; float32 on a CPU and
    bfloat16 elsewhere. threads: torch's intra-op threads, None leaves them. weights:
    `int8` leaves the matrices of an INT8 or INT4 checkpoint in INT8. fixed: compute all
    but long chunks in steps of fixed shapes, None for on a GPU."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        n_slots: int,
        slot_tokens: int,
        device: str = "auto",
        threads: int | None = None,
        weights: Literal["float", "int8"] = "float",
        fixed: bool | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.config = checkpoint.config
        self.device = device
        self.n_slots = n_slots
        self.slot_tokens = slot_tokens
        place = torch.device(device)
        dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
        self._model = _model(checkpoint, weights, dtype).to(place)
        self._cache = KVCache(
            checkpoint.config, n_slots + 1, slot_tokens, device=place, dtype=dtype
        )
        self._fixed: FixedSteps | None = None
        if place.type == "cuda" if fixed is None else fixed:
            self._fixed = FixedSteps(self._model, self._cache, idle_slot=n_slots)

    @staticmethod
    def kv_bytes_per_token(config: ModelConfig) -> int:
        """Bytes of one token's keys and values, at float32; a GPU takes half."""
        return 2 * 4 * config.n_layer * config.n_kv_head * config.head_size

    def extend(self, chunks: Sequence[Chunk]) -> Logits:
        """Together in fixed steps, or those of equal length through the model."""
        fixed: list[int] = []
        by_length: dict[int, list[int]] = {}
        for row, chunk in enumerate(chunks):
            length = len(chunk.tokens)
            if self._fixed is not None and length <= LONGEST:
                fixed.append(row)
            else:
                by_length.setdefault(length, []).append(row)
        if self._fixed is not None and not by_length:
            return self._fixed.run(chunks)
        out = np.empty((len(chunks), self.config.vocab_size), np.float32)
        if self._fixed is not None and fixed:
            out[fixed] = self._fixed.run([chunks[row] for row in fixed])
        for rows in by_length.values():
            out[rows] = self._run([chunks[row] for row in rows], last_only=True)
        return out

    def extend_all(self, chunk: Chunk) -> Logits:
        logits: Logits = self._run([chunk], last_only=False)[0]
        return logits

    def copy_slot(self, source: int, target: int, tokens: int, start: int = 0) -> None:
        self._cache.copy(source, target, tokens, start)

    @torch.inference_mode()
    def _run(self, chunks: Sequence[Chunk], *, last_only: bool) -> Logits:
        """Logits (B, V) after the last token, or (B, T, V), of equally long chunks."""
        hidden = self._model.hidden(
            self._tensor([chunk.tokens for chunk in chunks]),
            SlotView(
                self._cache,
                self._tensor([chunk.slot for chunk in chunks]),
                self._tensor([chunk.start for chunk in chunks]),
                len(chunks[0].tokens),
            ),
        )
        logits = self._model.logits(hidden[:, -1] if last_only else hidden)
        result: Logits = logits.float().cpu().numpy()
        return result

    def _tensor(self, values: Sequence[object]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)


def _model(
    checkpoint: Checkpoint, weights: Literal["float", "int8"], dtype: torch.dtype
) -> GPT:
    if weights == "int8" and checkpoint.bits != 32:
        return Int8GPT(expand_int4(checkpoint), dtype)
    model = GPT(checkpoint.config)
    model.load_tensors(dequantize_checkpoint(checkpoint).tensors)
    return model.to(dtype).eval()

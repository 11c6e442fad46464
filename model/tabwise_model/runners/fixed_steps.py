"""Decode steps of fixed shapes for a GPU: captured once as CUDA graphs, then replayed.

A small model's step is a few hundred kernels of microseconds each; launched one by one
they cost more than they do. A graph is launched as one. Its shapes are fixed, so a
batch is padded to the next size and attends to the next window; padding rows write into
a slot that nobody reads. Indices go to the device in one transfer, logits come back in
one. On a CPU the same steps run without capture, so that they can be tested there.

B batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tabwise_model.gpt import GPT
from tabwise_model.kv_cache import KVCache, SlotView
from tabwise_model.runners.protocol import Chunk, Logits

SIZES = (1, 2, 4, 8, 16, 32, 64)  # rows
FIRST_WINDOW = 128  # tokens; each further one is twice as long


class FixedSteps:
    """`run` takes slots one token on."""

    def __init__(self, model: GPT, cache: KVCache, idle_slot: int) -> None:
        """Captures every step where the model is on a GPU: seconds, once.

        idle_slot: of the cache, for padding rows.
        """
        self._model, self._cache, self._idle = model, cache, idle_slot
        self.windows = _windows(cache.keys.shape[3])
        place = cache.keys.device
        captured = place.type == "cuda"
        # rows: token, slot, start
        self._host = torch.zeros((3, SIZES[-1]), dtype=torch.long, pin_memory=captured)
        self._inputs = torch.zeros_like(self._host, device=place)
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        if captured:
            self._capture()

    def run(self, chunks: Sequence[Chunk]) -> Logits:
        """(B, V) logits of chunks of one token each; large batches go in parts."""
        most = SIZES[-1]
        parts = [chunks[at : at + most] for at in range(0, len(chunks), most)]
        return np.concatenate([self._run(part) for part in parts])

    @torch.inference_mode()
    def _run(self, chunks: Sequence[Chunk]) -> Logits:
        size = next(size for size in SIZES if size >= len(chunks))
        longest = max(chunk.start for chunk in chunks) + 1
        window = next(window for window in self.windows if window >= longest)
        rows = [(chunk.tokens[0], chunk.slot, chunk.start) for chunk in chunks]
        rows += [(0, self._idle, 0)] * (size - len(chunks))
        self._host[:, :size] = torch.from_numpy(np.array(rows).T)
        self._inputs.copy_(self._host, non_blocking=True)
        logits = self._step(size, window)
        found: Logits = logits[: len(chunks)].cpu().numpy()
        return found

    def _step(self, size: int, window: int) -> Tensor:
        captured = self._graphs.get((size, window))
        if captured is None:
            return self._compute(size, window)
        graph, logits = captured
        graph.replay()
        return logits

    def _compute(self, size: int, window: int) -> Tensor:
        """(size, V) float32 logits of what `_inputs` holds."""
        tokens, slots, starts = self._inputs[:, :size]
        view = SlotView(self._cache, slots, starts, 1, window)
        hidden = self._model.hidden(tokens[:, None], view)
        return self._model.logits(hidden[:, -1]).float()

    @torch.inference_mode()
    def _capture(self) -> None:
        """Larger batches first: the smaller ones find room in the memory they leave."""
        pool = torch.cuda.graph_pool_handle()
        self._inputs[1] = self._idle
        for size in reversed(SIZES):
            for window in reversed(self.windows):
                self._warm_up(size, window)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=pool):
                    logits = self._compute(size, window)
                self._graphs[size, window] = (graph, logits)

    def _warm_up(self, size: int, window: int) -> None:
        """Libraries make their workspaces at a first call; no graph may hold them."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._compute(size, window)
        torch.cuda.current_stream().wait_stream(stream)


def _windows(slot_tokens: int) -> list[int]:
    """
    >>> _windows(600)
    [128, 256, 512, 600]
    """
    found = []
    window = FIRST_WINDOW
    while window < slot_tokens:
        found.append(window)
        window *= 2
    return [*found, slot_tokens]

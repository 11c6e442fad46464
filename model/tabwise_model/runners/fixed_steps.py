"""Steps of fixed shapes for a GPU: captured once as CUDA graphs, then replayed.

A small model's step is a few hundred kernels of microseconds each; launched one by one
they cost more than they do. A graph is launched as one. Its shapes are fixed: each
token is a row with its own slot and position, whether it is decoded or one of a
prompt's, so that whatever many users need goes in one step; rows are padded to the next
size and attend to the next window, and padding writes into a slot that nobody reads.
Indices go to the device in one transfer, the logits that are wanted come back in one.
On a CPU the same steps run without capture, so that they can be tested there.

B batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tabwise_model.gpt import GPT
from tabwise_model.kv_cache import KVCache, SlotView
from tabwise_model.runners.protocol import Chunk, Logits

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # rows
LONGEST = 128  # tokens of a chunk, as the server cuts prompts; longer ones go alone
FIRST_WINDOW = 128  # tokens; each further one is twice as long


class FixedSteps:
    """`run` takes slots some tokens on."""

    def __init__(self, model: GPT, cache: KVCache, idle_slot: int) -> None:
        """Captures every step where the model is on a GPU: seconds, once.

        idle_slot: of the cache, for padding rows.
        """
        self._model, self._cache = model, cache
        self.windows = _windows(cache.keys.shape[3])
        place = cache.keys.device
        captured = self._captured = place.type == "cuda"
        # token, slot and position of each row; the rows that logits are wanted of
        self._host = torch.zeros((4, SIZES[-1]), dtype=torch.long, pin_memory=captured)
        self._inputs = torch.zeros_like(self._host, device=place)
        self._padding = torch.tensor([[0], [idle_slot], [0], [0]])
        # pinned, so that logits cross at the bus' speed and are copied once
        shape = (SIZES[-1], model.config.vocab_size)
        self._found = torch.empty(shape, pin_memory=captured)
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        if captured:
            self._capture()

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk]) -> Logits:
        """(B, V) logits after each chunk's last token, overwritten by the next call.
        What has more rows than the largest step goes in parts, in order: a chunk may be
        cut anywhere."""
        rows = np.array(
            [
                (token, chunk.slot, chunk.start + i)
                for chunk in chunks
                for i, token in enumerate(chunk.tokens)
            ]
        )
        lasts = np.cumsum([len(chunk.tokens) for chunk in chunks]) - 1
        if len(chunks) > len(self._found):
            self._found = torch.empty(
                (len(chunks), self._found.shape[1]),
                pin_memory=self._captured,
            )
        done = 0
        for start in range(0, len(rows), SIZES[-1]):
            part = rows[start : start + SIZES[-1]]
            wanted = lasts[(lasts >= start) & (lasts < start + len(part))] - start
            here = self._found[done : done + len(wanted)]
            here.copy_(self._run(part, wanted))  # waits for the device
            done += len(wanted)
        found: Logits = self._found[:done].numpy()
        return found

    def _run(
        self, rows: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
    ) -> Tensor:
        """rows (R, 3): token, slot, position. Returns the logits of the wanted ones."""
        size = next(size for size in SIZES if size >= len(rows))
        longest = rows[:, 2].max() + 1
        window = next(window for window in self.windows if window >= longest)
        self._host[:, :size] = self._padding
        self._host[:3, : len(rows)] = torch.from_numpy(rows.T)
        self._host[3, : len(wanted)] = torch.from_numpy(wanted)
        self._inputs.copy_(self._host, non_blocking=True)
        return self._step(size, window)[: len(wanted)]

    def _step(self, size: int, window: int) -> Tensor:
        captured = self._graphs.get((size, window))
        if captured is None:
            return self._compute(size, window)
        graph, logits = captured
        graph.replay()
        return logits

    def _compute(self, size: int, window: int) -> Tensor:
        """(size, V) float32 logits of what `_inputs` holds, those wanted first."""
        tokens, slots, positions, wanted = self._inputs[:, :size]
        # all rows' keys and values are stored before any row reads its slot's
        view = SlotView(self._cache, slots, positions, 1, window)
        hidden = self._model.hidden(tokens[:, None], view)
        return self._model.logits(hidden[wanted, -1]).float()

    @torch.inference_mode()
    def _capture(self) -> None:
        """Larger batches first: the smaller ones find room in the memory they leave."""
        pool = torch.cuda.graph_pool_handle()
        self._inputs.copy_(self._padding)
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

"""Choosing a token from logits, with its probability."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tabwise_model.request import Sampling

Logits = npt.NDArray[np.float32]


class Sampler:
    """Chooses one request's tokens; a seed makes it repeatable."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._rng = (
            np.random.default_rng(sampling.seed) if sampling.temperature > 0 else None
        )

    def choose(self, logits: Logits) -> tuple[int, float]:
        """(token, natural log of its probability at temperature 1) of logits (V,)."""
        token = int(logits.argmax()) if self._rng is None else self._draw(logits)
        top = float(logits.max())
        norm = top + math.log(float(np.exp(logits - top).sum()))
        return token, float(logits[token]) - norm

    def _draw(self, logits: Logits) -> int:
        """Draw at the request's temperature among its top_k tokens."""
        assert self._rng is not None
        k = self._sampling.top_k
        ids = np.arange(len(logits))
        if k is not None and k < len(logits):
            ids = np.sort(np.argpartition(logits, -k)[-k:])
        scaled = logits[ids].astype(np.float64) / self._sampling.temperature
        weights = np.exp(scaled - scaled.max())
        edges = weights.cumsum()
        place = np.searchsorted(edges, self._rng.random() * edges[-1], side="right")
        return int(ids[min(int(place), len(ids) - 1)])

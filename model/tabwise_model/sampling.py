"""Choosing a token from logits, with its probability."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tabwise_model.copying import Copied, mix
from tabwise_model.healing import Ids
from tabwise_model.request import Sampling

Logits = npt.NDArray[np.float32]


class NotFinite(ValueError):
    """The logits hold NaN or infinity, so no token can be chosen from them."""


class Sampler:
    """Chooses one request's tokens; a seed makes it repeatable."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        drawn = sampling.temperature > 0 and sampling.top_k != 1
        self._rng = np.random.default_rng(sampling.seed) if drawn else None

    def choose(
        self,
        logits: Logits,
        allowed: Ids | None = None,
        copied: Sequence[Copied] = (),
    ) -> tuple[int, float]:
        """(token, natural log of its probability at temperature 1) of logits (V,).

        Greedy takes the highest, the first among equals. allowed: ids to choose from,
        all others having no probability; None for all. copied: opinions to mix in.
        Raises NotFinite.
        """
        if copied:
            with np.errstate(divide="ignore"):
                logits = np.log(probabilities(logits, copied))
        if allowed is not None:
            place, logprob = self.choose(logits[allowed])
            return int(allowed[place]), logprob
        best = int(logits.argmax())  # a NaN counts as the highest
        if not math.isfinite(logits[best]):
            raise NotFinite("the model computed logits that are not finite")
        shifted = logits - logits[best]
        total = float(np.exp(shifted, out=shifted).sum())
        token = best if self._rng is None else self._draw(logits, best)
        return token, float(logits[token] - logits[best]) - math.log(total)

    def _draw(self, logits: Logits, best: int) -> int:
        """Draw at the request's temperature among its top_k and top_p tokens."""
        assert self._rng is not None
        k = self._sampling.top_k
        ids = np.arange(len(logits))
        if k is not None and k < len(logits):
            ids = np.sort(np.argpartition(logits, -k)[-k:])
        # shifted before it is divided, so that the smallest temperature cannot overflow
        shifted = logits[ids].astype(np.float64) - float(logits[best])
        weights = np.exp(shifted / self._sampling.temperature)
        if self._sampling.top_p < 1:
            _keep_share(weights, self._sampling.top_p)
        edges = weights.cumsum()
        place = np.searchsorted(edges, self._rng.random() * edges[-1], side="right")
        return int(ids[min(int(place), len(ids) - 1)])


def _keep_share(weights: npt.NDArray[np.float64], share: float) -> None:
    """Zero all but the highest weights that together have `share` of their sum."""
    order = np.argsort(-weights, kind="stable")
    reached = weights[order].cumsum() >= share * weights.sum()
    weights[order[int(reached.argmax()) + 1 :]] = 0


def probabilities(
    logits: Logits, copied: Iterable[Copied] = ()
) -> npt.NDArray[np.float32]:
    """Softmax of logits (V,), with what may be copied mixed in. Raises NotFinite."""
    top = logits.max()
    if not math.isfinite(top):
        raise NotFinite("the model computed logits that are not finite")
    p: npt.NDArray[np.float32] = np.exp(logits - top)
    p /= p.sum()
    mix(p, copied)
    return p

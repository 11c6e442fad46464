"""How likely held-out text is under a runner."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_model.copying import Remembered, trust_after
from tabwise_model.occurrences import LONGEST
from tabwise_model.runners.protocol import Chunk, Runner
from tabwise_model.sampling import probabilities
from tabwise_model.tokenizer import Ids, Tokenizer

SMALLEST = 1e-30  # probability that is told from none


@attrs.frozen(kw_only=True)
class Likelihood:
    """Summed negative log-likelihood (nats) of so many tokens, and their bytes."""

    nats: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / max(1, self.bytes)

    @property
    def perplexity(self) -> float:
        """Of a token: comparable for one vocabulary only."""
        return math.exp(self.nats / max(1, self.tokens))


def likelihood(
    runner: Runner,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    max_bytes: int,
    remembered: Remembered | None = None,
) -> Likelihood:
    """The texts', in windows of a slot with no overlap.

    Each window begins with END, so every byte is predicted; counting stops after
    `max_bytes`. remembered: a repository that is copied from. Uses slot 0.
    """
    width = min(runner.slot_tokens, runner.config.block_size) - 1
    found = Likelihood(nats=0.0, tokens=0, bytes=0)
    for text in texts:
        ids = tokenizer.encode(text)
        for start in range(0, len(ids), width):
            window = ids[start : start + width]
            found = Likelihood(
                nats=found.nats + _nats(runner, [tokenizer.end, *window], remembered),
                tokens=found.tokens + len(window),
                bytes=found.bytes + len(tokenizer.decode_bytes(window)),
            )
            if found.bytes >= max_bytes:
                return found
    return found


def _nats(runner: Runner, ids: list[int], remembered: Remembered | None) -> float:
    """Summed negative log-likelihood of ids[1:] given what stands before each."""
    rows = runner.extend_all(Chunk(0, 0, tuple(ids[:-1])))
    if remembered is not None:
        return _nats_remembering(rows, np.array(ids, np.int32), remembered)
    logits = rows.astype(np.float64)
    top = logits.max(axis=1)
    norm = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    return float((norm - logits[np.arange(len(ids) - 1), ids[1:]]).sum())


def _nats_remembering(
    rows: npt.NDArray[np.float32], ids: Ids, remembered: Remembered
) -> float:
    """As `_nats`, every token with the trust that the window before it brings."""
    nats = 0.0
    for i, row in enumerate(rows, 1):
        trust = trust_after(remembered.agreements(ids[:i]))
        copied = remembered.predict(ids[max(0, i - LONGEST) : i].tolist(), trust)
        p = probabilities(row, () if copied is None else (copied,))
        nats -= math.log(max(float(p[ids[i]]), SMALLEST))
    return nats

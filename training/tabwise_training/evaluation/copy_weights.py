"""How much a copy should weigh beside the model, by how far the text agrees.

Fits `copying.WEIGHTS` on held-out lines that nothing else is judged by: for each length
of agreement the weight under which the true tokens are likeliest.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.copying import WEIGHTS
from tabwise_model.infill import Hole, Infiller, Wanted
from tabwise_model.occurrences import LONGEST
from tabwise_model.runners.protocol import Chunk, Runner
from tabwise_model.sampling import probabilities
from tabwise_training.evaluation.positions import Position
from tabwise_training.evaluation.windows import hole_of

GRID = np.linspace(0, 0.95, 20)
LINE_TOKENS = 40

Seen = tuple[int, float, float]  # agreement, the true token's share by model and copy


def fit_copy_weights(
    runner: Runner, checkpoint: Checkpoint, positions: Sequence[Position]
) -> dict[str, Any]:
    """The weights, and nats a token without copies, with today's, and with these."""
    groups: dict[int, list[tuple[float, float]]] = defaultdict(list)
    infiller = Infiller(checkpoint.tokenizer, checkpoint.config.block_size)
    for position in positions:
        for length, model, copy in _tokens(runner, checkpoint, infiller, position):
            groups[length].append((model, copy))
    fitted, nats = [], np.zeros(3)
    for length in range(LONGEST + 1):
        shares = np.array(groups.get(length, [])).reshape(-1, 2)
        losses = [_nats(shares, weight) for weight in (*GRID, WEIGHTS[length])]
        best = int(np.argmin(losses[:-1]))
        fitted.append(round(float(GRID[best]), 2))
        nats += (losses[0], losses[-1], losses[best])
    count = sum(map(len, groups.values()))
    return {
        "weights": fitted,
        "tokens": count,
        "nats": dict(zip(("alone", "today", "fitted"), nats / count, strict=True)),
    }


def _nats(shares: np.ndarray[Any, Any], weight: float) -> float:
    mixed = (1 - weight) * shares[:, 0] + weight * shares[:, 1]
    return float(-np.log(np.maximum(mixed, 1e-9)).sum())


def _tokens(
    runner: Runner, checkpoint: Checkpoint, infiller: Infiller, position: Position
) -> Iterator[Seen]:
    """Every token of the line as it really goes on."""
    tokenizer = checkpoint.tokenizer
    prefix, suffix = hole_of(position)
    asked = infiller.request("fit", Hole(prefix=prefix, suffix=suffix), Wanted())
    assert asked.copy is not None
    text = asked.heal.decode("utf-8", errors="ignore") + position.truth
    truth = tuple(tokenizer.encode(text)[:LINE_TOKENS])
    first = runner.extend([Chunk(0, 0, asked.prompt)])[0].copy()
    rest = runner.extend_all(Chunk(0, len(asked.prompt), truth))
    rows = np.vstack([first[None], rest[:-1]])[:, : tokenizer.vocab_size]
    for place, (token, row) in enumerate(zip(truth, rows, strict=True)):
        model = float(probabilities(row)[token])
        copied = asked.copy.predict((*asked.prompt[-LONGEST:], *truth[:place]))
        if not copied:
            yield 0, model, 0.0
            continue
        found = copied[0].probabilities[copied[0].ids == token]
        yield copied[0].agreement, model, float(found.sum())


def copy_weights_text(figures: dict[str, Any]) -> str:
    nats = figures["nats"]
    bits = ", ".join(f"{name} {value:.3f}" for name, value in nats.items())
    saved = (1 - math.exp(nats["today"] - nats["alone"])) * 100
    return (
        f"weights by tokens of agreement: {figures['weights']}\n"
        f"nats a token over {figures['tokens']:,}: {bits} "
        f"(perplexity {saved:.0f} % lower today)"
    )

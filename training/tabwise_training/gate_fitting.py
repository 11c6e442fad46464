"""Fitting `tabwise_model.copy_gates`: weights under which true tokens are likeliest.

What the model and the copies said before each token is observed first; the two networks
are then fitted to all of it at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.copy_gates import GATES, Gate, Gates
from tabwise_model.copying import Copied, features_of
from tabwise_model.infill import Hole, Infiller, Wanted
from tabwise_model.occurrences import LONGEST
from tabwise_model.runners.protocol import Chunk, Runner
from tabwise_model.sampling import probabilities
from tabwise_training.evaluation.positions import Position
from tabwise_training.evaluation.windows import hole_of

LINE_TOKENS = 40
HIDDEN = 8
DECAY = 3e-5  # of the sum of squares, beside the mean loss in nats
LEAST = 1e-9  # probability that is told from none
DIGITS = 4
KINDS = {"text": 5, "remembered": 6}  # features of each


@attrs.frozen(kw_only=True)
class Opinion:
    """What a copy said of so many tokens: features (N, F), the true token's share (N,),
    and how much it may weigh at most (N,), by the trust in it; 0 where it was silent.
    """

    features: Tensor
    share: Tensor
    reach: Tensor


@attrs.frozen(kw_only=True)
class Observed:
    """by_model (N,): the true tokens' probabilities, and what copies said of them."""

    by_model: Tensor
    opinions: Mapping[str, Opinion]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Observed:
        opinions = {}
        for kind, width in KINDS.items():
            nothing = ([0.0] * width, 0.0)
            said = [row.get(kind, nothing) for row in rows]
            features = torch.tensor([one[0] for one in said])
            reach = torch.tensor([float(kind in row) for row in rows])
            if kind == "remembered":
                reach = reach * features[:, -1].clamp(max=1)  # trust: `weight_of`
            opinions[kind] = Opinion(
                features=features,
                share=torch.tensor([one[1] for one in said]),
                reach=reach,
            )
        return cls(
            by_model=torch.tensor([row["model"] for row in rows]), opinions=opinions
        )

    def nats(self, gates: Mapping[str, nn.Module] | None) -> Tensor:
        """A token's, in the mean; gates: by kind, None for the model alone."""
        p = self.by_model
        for kind in reversed(KINDS) if gates else ():  # the text's is mixed in last
            said = self.opinions[kind]
            weight = gates[kind](said.features) * said.reach  # type: ignore[index]
            p = (1 - weight) * p + weight * said.share
        return -torch.log(p.clamp(min=LEAST)).mean()


class Network(nn.Module):
    """A `Gate` that can be fitted."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, 1)

    @classmethod
    def of(cls, gate: Gate) -> Network:
        network = cls(gate.hidden.shape[1])
        with torch.no_grad():
            network.hidden.weight.copy_(torch.from_numpy(gate.hidden))
            network.hidden.bias.copy_(torch.from_numpy(gate.bias))
            network.out.weight.copy_(torch.from_numpy(gate.out)[None])
            network.out.bias.fill_(gate.last)
        return network

    def forward(self, features: Tensor) -> Tensor:
        weight: Tensor = self.out(torch.tanh(self.hidden(features)))
        return weight.sigmoid()[:, 0]

    @torch.no_grad()
    def to_json(self) -> dict[str, Any]:
        """As `Gate.of` reads it."""

        def rounded(values: Tensor) -> Any:
            return np.round(values.double().numpy(), DIGITS).tolist()

        return {
            "hidden": rounded(self.hidden.weight),
            "bias": rounded(self.hidden.bias),
            "out": rounded(self.out.weight[0]),
            "last": rounded(self.out.bias)[0],
        }


def networks_of(gates: Gates = GATES) -> dict[str, Network]:
    return {kind: Network.of(getattr(gates, kind)) for kind in KINDS}


def fit(observed: Sequence[Observed], seed: int = 1) -> dict[str, Network]:
    """The networks under which these tokens are likeliest, each set counting alike."""
    torch.manual_seed(seed)
    networks = {kind: Network(width) for kind, width in KINDS.items()}
    parameters = [p for one in networks.values() for p in one.parameters()]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=300, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        nats = torch.stack([one.nats(networks) for one in observed]).mean()
        total = nats + DECAY * torch.stack([p.square().sum() for p in parameters]).sum()
        torch.autograd.backward(total)
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return networks


def observe(
    runner: Runner, checkpoint: Checkpoint, positions: Sequence[Position]
) -> Observed:
    """What is said before each token of the positions' lines as they really go on."""
    rows = [row for at in positions for row in _line(runner, checkpoint, at)]
    return Observed.of(rows)


def _line(
    runner: Runner, checkpoint: Checkpoint, position: Position
) -> Iterator[dict[str, Any]]:
    tokenizer = checkpoint.tokenizer
    infiller = Infiller(tokenizer, checkpoint.config.block_size)
    prefix, suffix = hole_of(position)
    asked = infiller.request(
        "fit",
        Hole(prefix=prefix, suffix=suffix),
        Wanted(),
        remembered=checkpoint.remembered,
    )
    assert asked.copy is not None
    text = asked.heal.decode("utf-8", errors="ignore") + position.truth
    truth = tuple(tokenizer.encode(text)[:LINE_TOKENS])
    first = runner.extend([Chunk(0, 0, asked.prompt)])[0].copy()
    rest = runner.extend_all(Chunk(0, len(asked.prompt), truth))
    rows = np.vstack([first[None], rest[:-1]])[:, : tokenizer.vocab_size]
    for place, (token, row) in enumerate(zip(truth, rows, strict=True)):
        p = probabilities(row)
        context = (*asked.prompt[-LONGEST:], *truth[:place])
        said = {"model": float(p[token])}
        yield said | {
            "text" if one.trust is None else "remembered": _opinion(one, p, token)
            for one in asked.copy.predict(context)
        }


def _opinion(one: Copied, by_model: Any, token: int) -> tuple[list[float], float]:
    """(features, the token's share)."""
    shares = one.shares(len(by_model))
    return features_of(one, shares, by_model), float(shares[token])

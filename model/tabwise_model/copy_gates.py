"""How much a copy weighs beside the model: a small network for each kind of copy.

A copy deserves the more weight the longer the text agrees and the more alike what
followed, and the less the surer the model is of something else; none of these alone
says enough. `tabwise fit-copying` fits both networks and writes the file that is read
here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

FILE = Path(__file__).with_name("copy_gates.json")
LEAST_SHARE = 1e-4  # shares are told apart from here to 1 - LEAST_SHARE

Floats = npt.NDArray[np.float32]


@attrs.frozen(eq=False)
class Gate:
    """features (F,) -> tanh -> (H,) -> a weight of 0..1.

    hidden (H, F), bias (H,), out (H,), last: its parameters.
    """

    hidden: Floats
    bias: Floats
    out: Floats
    last: float

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Gate:
        hidden, bias, out = (
            np.array(parameters[name], np.float32) for name in ("hidden", "bias", "out")
        )
        return cls(hidden, bias, out, float(parameters["last"]))

    def weight(self, features: Sequence[float]) -> float:
        within = np.tanh(self.hidden @ np.array(features, np.float32) + self.bias)
        return 1 / (1 + math.exp(-(float(self.out @ within) + self.last)))


@attrs.frozen(kw_only=True)
class Gates:
    """text: of copies from the texts at hand; remembered: from a repository that a
    checkpoint brings along, which is trusted more or less."""

    text: Gate
    remembered: Gate


def features(
    agreement: int,
    occurrences: int,
    share: float,
    by_model: float,
    surest: float,
    trust: float | None = None,
) -> list[float]:
    """What a gate weighs by.

    agreement: tokens, at the longest; occurrences: that agree so long; share: of the
    likeliest token among what followed; by_model: its probability by the model; surest:
    the largest probability of any token by the model. trust: in what is remembered,
    None for a text at hand.
    """
    found = [
        agreement / 8,
        math.log1p(occurrences) / 4,
        log_odds(share) / 4,
        log_odds(by_model) / 4,
        log_odds(surest) / 4,
    ]
    return found if trust is None else [*found, trust]


def log_odds(share: float) -> float:
    within = min(max(share, LEAST_SHARE), 1 - LEAST_SHARE)
    return math.log(within / (1 - within))


def read_gates(file: Path = FILE) -> Gates:
    """The gates that `tabwise fit-copying` wrote."""
    return Gates(
        **{name: Gate.of(one) for name, one in json.loads(file.read_text()).items()}
    )


GATES = read_gates()

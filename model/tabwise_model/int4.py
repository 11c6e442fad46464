"""INT4 matrices: what they hold, how they are packed, rounding to nearest. No torch.

w = q * step * scale[row]: q in -8..7, and a step of 1..15 for each `group` of a row's
inputs. q * step fits INT8, so an INT4 matrix is an INT8 matrix that takes half the
room: what multiplies INT8 rows gets the same result from these, to the last bit.

X.weight (out, in / 2) uint8: q + 8 of two inputs, the earlier in the low four bits
X.steps (out, groups / 2 rounded up) uint8: two steps, in the same order
X.scale (out,) float32
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

GROUPS = (32, 64)
OFFSET = 8  # what is stored is q + OFFSET
LEAST, MOST = -8, 7
MOST_STEP = 15
# Shares of the scale at which a row's largest weight is just reached.
SCALES = (0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15)

Floats = npt.NDArray[np.float32]
Int8s = npt.NDArray[np.int8]
Bytes = npt.NDArray[np.uint8]


class Int4Error(ValueError):
    """A matrix or choice that INT4 cannot hold; the message names value and remedy."""


@attrs.frozen(kw_only=True)
class Int4Layout:
    """group: a row's inputs that share a step. embed_bits: the embedding's, 8 or 4."""

    group: int = 32
    embed_bits: int = 8

    def __attrs_post_init__(self) -> None:
        if self.group not in GROUPS:
            raise Int4Error(f"group must be one of {GROUPS}, got {self.group}")
        if self.embed_bits not in (8, 4):
            raise Int4Error(f"embed_bits must be 8 or 4, got {self.embed_bits}")

    def packs(self, name: str) -> bool:
        """Whether the matrix of this name, without `.weight`, is one of four bits."""
        return name != "embed" or self.embed_bits == 4


@attrs.frozen
class Int4Matrix:
    """q (out, in) in -8..7, steps (out, in / group), scale (out,)."""

    q: Int8s
    steps: Bytes
    scale: Floats

    def integers(self) -> Int8s:
        """(out, in): the INT8 weights that these are, under the same scales."""
        group = self.q.shape[1] // self.steps.shape[1]
        return self.q * np.repeat(self.steps.astype(np.int8), group, axis=1)

    def to_tensors(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """As a checkpoint keeps them."""
        return {
            f"{name}.weight": pack_nibbles((self.q + OFFSET).astype(np.uint8)),
            f"{name}.steps": pack_nibbles(self.steps),
            f"{name}.scale": self.scale,
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, npt.NDArray[Any]], name: str, group: int
    ) -> Int4Matrix:
        """The inverse of `to_tensors`; shapes and types have been checked."""
        packed = tensors[f"{name}.weight"]
        inputs = 2 * packed.shape[1]
        q = unpack_nibbles(packed, inputs).astype(np.int8) - np.int8(OFFSET)
        steps = unpack_nibbles(tensors[f"{name}.steps"], inputs // group)
        return cls(q, steps, tensors[f"{name}.scale"])


def packed_shapes(
    name: str, shape: tuple[int, int], group: int
) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """Shape and type by name of what a packed matrix of this shape consists of.

    Raises Int4Error if groups do not fill its rows.
    """
    rows, inputs = shape
    if inputs % group:
        raise Int4Error(
            f"{name} has {inputs} inputs, which group {group} does not divide; "
            f"INT4 needs a width and an MLP that are multiples of it"
        )
    return {
        f"{name}.weight": ((rows, inputs // 2), np.uint8),
        f"{name}.steps": ((rows, (inputs // group + 1) // 2), np.uint8),
        f"{name}.scale": ((rows,), np.float32),
    }


def round_matrix(
    weight: Floats, group: int, importance: Floats | None = None
) -> Int4Matrix:
    """The nearest INT4 matrix, by the squared error of weights.

    weight: (out, in). importance: (in,), what an input's error counts; None for all
    the same.
    """
    scale = choose_scale(weight, group, importance)
    steps = choose_steps(weight, scale, group, importance)
    units = scale[:, None] * np.repeat(steps, group, axis=1)
    return Int4Matrix(round_to(weight, units).astype(np.int8), steps, scale)


def round_to(weight: npt.NDArray[Any], units: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """q of the weights, given what 1 is worth for each."""
    rounded: npt.NDArray[Any] = np.clip(np.rint(weight / units), LEAST, MOST)
    return rounded


def choose_scale(
    weight: Floats, group: int, importance: Floats | None = None
) -> Floats:
    """(out,): each row's scale, of SCALES the one with the least error. A row of zeros
    has scale 1."""
    top = np.abs(weight).max(axis=1)
    reached = np.where(top > 0, top / (MOST_STEP * (MOST + 0.5)), 1).astype(np.float32)
    best = reached
    least = np.full(len(weight), np.inf, np.float32)
    for share in SCALES:
        scale = (reached * np.float32(share)).astype(np.float32)
        error = _errors(weight, scale, group, importance)[1]
        best = np.where(error < least, scale, best)
        least = np.minimum(error, least)
    return best


def choose_steps(
    weight: Floats, scale: Floats, group: int, importance: Floats | None = None
) -> Bytes:
    """(out, in / group): each group's step, the one with the least error."""
    return _errors(weight, scale, group, importance)[0]


def _errors(
    weight: Floats, scale: Floats, group: int, importance: Floats | None
) -> tuple[Bytes, Floats]:
    """The best steps, and each row's summed squared error with them."""
    rows, inputs = weight.shape
    grouped = weight.reshape(rows, inputs // group, group)
    counts = np.ones(inputs, np.float32) if importance is None else importance
    counts = counts.reshape(inputs // group, group)
    best = np.ones(grouped.shape[:2], np.uint8)
    least = np.full(grouped.shape[:2], np.inf, np.float32)
    for step in range(1, MOST_STEP + 1):
        unit = scale[:, None, None] * np.float32(step)
        wrong = round_to(grouped, unit) * unit - grouped
        error = np.einsum("rgi,gi->rg", wrong * wrong, counts)
        best = np.where(error < least, np.uint8(step), best)
        least = np.minimum(error, least)
    return best, least.sum(axis=1)


def pack_nibbles(values: Bytes) -> Bytes:
    """(rows, count) of 0..15 -> (rows, count / 2 rounded up), a zero for what lacks."""
    even = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    return even[:, 0::2] | even[:, 1::2] << np.uint8(4)


def unpack_nibbles(packed: Bytes, count: int) -> Bytes:
    """(rows, count): the inverse of `pack_nibbles`."""
    halves = np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=2)
    return halves.reshape(len(packed), -1)[:, :count]

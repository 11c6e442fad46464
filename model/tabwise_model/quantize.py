"""A checkpoint's matrices in INT8 or INT4, and back in float32. No torch.

INT8: symmetric, one scale per output channel, embeddings included: w ≈ q * scale[row],
q in -127..127, scale = max|w| of the row / 127; a row of zeros has scale 1. INT4: see
`int4.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    check_tensors,
    quantized_names,
)
from tabwise_model.int4 import Int4Layout, Int4Matrix

Floats = npt.NDArray[np.float32]


def quantize_rows(weight: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """(out, in) float32 -> int8 of the same shape and (out,) scales."""
    top = np.abs(weight).max(axis=1)
    scale = np.where(top > 0, top / 127, 1).astype(np.float32)
    rounded = np.rint(weight / scale[:, None])
    return np.clip(rounded, -127, 127).astype(np.int8), scale


def quantize_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """The same model with INT8 matrices. Raises CheckpointError if it has them."""
    if checkpoint.bits != 32:
        raise CheckpointError(f"{checkpoint.name} is already {checkpoint.bits}-bit")
    check_finite(checkpoint)
    tensors = dict(checkpoint.tensors)
    for name in quantized_names(checkpoint.config):
        _put_int8(tensors, name, tensors[f"{name}.weight"])
    return attrs.evolve(checkpoint, tensors=tensors, bits=8)


def check_finite(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError naming the first tensor with a value that is not finite."""
    for name, array in checkpoint.tensors.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{name} has values that are not finite")


def with_int4(
    checkpoint: Checkpoint, layout: Int4Layout, matrices: Mapping[str, Int4Matrix]
) -> Checkpoint:
    """A float32 checkpoint with these matrices in its own's place; an embedding that
    the layout does not pack becomes INT8. Raises CheckpointError."""
    tensors = dict(checkpoint.tensors)
    for name in quantized_names(checkpoint.config):
        if layout.packs(name):
            tensors |= matrices[name].to_tensors(name)
        else:
            _put_int8(tensors, name, tensors[f"{name}.weight"])
    check_tensors(checkpoint.config, tensors, 4, layout)
    return attrs.evolve(checkpoint, tensors=tensors, bits=4, int4=layout)


def expand_int4(checkpoint: Checkpoint) -> Checkpoint:
    """The same weights as INT8; itself if it has no INT4 matrices."""
    layout = checkpoint.int4
    if layout is None:
        return checkpoint
    tensors = dict(checkpoint.tensors)
    for name in filter(layout.packs, quantized_names(checkpoint.config)):
        matrix = Int4Matrix.from_tensors(tensors, name, layout.group)
        tensors[f"{name}.weight"] = matrix.integers()
        del tensors[f"{name}.steps"]
    return attrs.evolve(checkpoint, tensors=tensors, bits=8, int4=None)


def dequantize_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """The same model with float32 matrices; itself if it has them."""
    if checkpoint.bits == 32:
        return checkpoint
    checkpoint = expand_int4(checkpoint)
    tensors = dict(checkpoint.tensors)
    for name in quantized_names(checkpoint.config):
        scale = tensors.pop(f"{name}.scale")
        integers = tensors[f"{name}.weight"]
        tensors[f"{name}.weight"] = integers.astype(np.float32) * scale[:, None]
    return attrs.evolve(checkpoint, tensors=tensors, bits=32)


def _put_int8(
    tensors: dict[str, npt.NDArray[np.generic]], name: str, weight: Floats
) -> None:
    tensors[f"{name}.weight"], tensors[f"{name}.scale"] = quantize_rows(weight)

"""INT8 weights: symmetric, one scale per output channel, embeddings included. No torch.

w ≈ q * scale[row], q in -127..127, scale = max|w| of the row / 127; a row of zeros has
scale 1.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_model.checkpoint import Checkpoint, CheckpointError, quantized_names

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
    tensors = dict(checkpoint.tensors)
    for name in quantized_names(checkpoint.config):
        weight = tensors[f"{name}.weight"]
        if not np.isfinite(weight).all():
            raise CheckpointError(f"{name}.weight has values that are not finite")
        tensors[f"{name}.weight"], tensors[f"{name}.scale"] = quantize_rows(weight)
    return attrs.evolve(checkpoint, tensors=tensors, bits=8)


def dequantize_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """The same model with float32 matrices; itself if it has them."""
    if checkpoint.bits == 32:
        return checkpoint
    tensors = dict(checkpoint.tensors)
    for name in quantized_names(checkpoint.config):
        scale = tensors.pop(f"{name}.scale")
        integers = tensors[f"{name}.weight"]
        tensors[f"{name}.weight"] = integers.astype(np.float32) * scale[:, None]
    return attrs.evolve(checkpoint, tensors=tensors, bits=32)

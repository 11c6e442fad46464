"""A checkpoint's tensors as the native library takes them: padded to sixteens.

Padding is zeros, so that it changes no sum: a head of 8 channels takes 16 outputs of
the query matrix, and 16 inputs of the attention's output matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_model.checkpoint import Checkpoint, CheckpointError
from tabwise_model.config import ModelConfig
from tabwise_model.int4 import unpack_nibbles
from tabwise_model.quantize import expand_int4, quantize_checkpoint
from tabwise_model.runners.native_library import Shape

BLOCK = 16

Bytes = npt.NDArray[Any]  # INT8, or what INT4 is packed in
Floats = npt.NDArray[np.float32]


class Tensor(IntEnum):
    """`TabwiseTensor` of native/tabwise.h."""

    QKV = 0
    ATTENTION_OUT = 1
    GATE_UP = 2
    DOWN = 3
    EMBED = 4
    ATTENTION_NORM = 5
    MLP_NORM = 6
    NORM = 7
    ROPE = 8


@attrs.frozen
class Matrix:
    """Weights (outputs, inputs) in INT8, or packed INT4 ones (outputs, inputs / 2) with
    the steps (outputs, groups) of their groups; and scales (outputs,)."""

    weights: Bytes
    scales: Floats
    steps: Bytes | None = None

    def pad(self, shape: Shape, *, out: str = "", into: str = "") -> Matrix:
        """Padded to sixteens. An axis named "heads" is padded head by head."""
        weights = _pad_axis(self.weights, 0, shape, out == "heads")
        scales = _pad_axis(self.scales, 0, shape, out == "heads")
        if self.steps is not None:  # whole heads, and inputs that need no padding
            return Matrix(weights, scales, _pad_axis(self.steps, 0, shape, False))
        return Matrix(_pad_axis(weights, 1, shape, into == "heads"), scales)


def padded(count: int) -> int:
    """The next multiple of sixteen."""
    return -(-count // BLOCK) * BLOCK


def native_form(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint as the library computes with it: float32 matrices in INT8, and
    INT4 ones too where heads would have to be padded within a group.

    Raises CheckpointError.
    """
    if checkpoint.bits == 32:
        return quantize_checkpoint(checkpoint)
    return (
        expand_int4(checkpoint) if checkpoint.config.head_size % BLOCK else checkpoint
    )


def shape_of(checkpoint: Checkpoint, n_slots: int, slot_tokens: int) -> Shape:
    """The sizes that the library is created with, for a checkpoint in native form."""
    config, int4 = checkpoint.config, checkpoint.int4
    return Shape(
        layers=config.n_layer,
        heads=config.n_head,
        kv_heads=config.n_kv_head,
        head_size=config.head_size,
        head_stride=padded(config.head_size),
        channels=config.n_embd,
        width=padded(config.n_embd),
        hidden=padded(config.mlp_hidden),
        vocab=padded(config.vocab_size),
        slots=n_slots,
        slot_tokens=padded(slot_tokens),
        group=int4.group if int4 else 0,
        embed_group=int4.group if int4 and int4.packs("embed") else 0,
        norm_eps=config.norm_eps,
    )


def arrange(
    checkpoint: Checkpoint, shape: Shape
) -> Iterator[tuple[int, Tensor, Matrix | Floats]]:
    """(layer, tensor, data) of all that the library is to load, of a checkpoint in
    native form. Raises CheckpointError."""
    for layer in range(shape.layers):
        for tensor, matrix in _layer_matrices(checkpoint, shape, layer).items():
            yield layer, tensor, matrix
        for tensor, name in (
            (Tensor.ATTENTION_NORM, "attention_norm"),
            (Tensor.MLP_NORM, "mlp_norm"),
        ):
            weight = checkpoint.tensors[f"layers.{layer}.{name}.weight"]
            yield layer, tensor, _pad_axis(weight, 0, shape, False)
    yield 0, Tensor.EMBED, _matrix(checkpoint, "embed").pad(shape)
    norm = checkpoint.tensors["norm.weight"]
    yield 0, Tensor.NORM, _pad_axis(norm, 0, shape, False)
    yield 0, Tensor.ROPE, rope_table(checkpoint.config, shape.slot_tokens)


def rope_table(config: ModelConfig, tokens: int) -> Floats:
    """(tokens, 2, head_size / 2): cosines and sines of each position's angles."""
    exponents = np.arange(0, config.head_size, 2) / config.head_size
    angles = np.arange(tokens)[:, None] * config.rope_theta**-exponents
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _layer_matrices(
    checkpoint: Checkpoint, shape: Shape, layer: int
) -> dict[Tensor, Matrix]:
    def get(name: str) -> Matrix:
        return _matrix(checkpoint, f"layers.{layer}.{name}")

    qkv = [get(f"attention.{name}").pad(shape, out="heads") for name in "qkv"]
    return {
        Tensor.QKV: _concatenate(qkv),
        Tensor.ATTENTION_OUT: get("attention.out").pad(shape, into="heads"),
        Tensor.GATE_UP: _concatenate([get(f"mlp.{n}").pad(shape) for n in GATE_UP]),
        Tensor.DOWN: get("mlp.down").pad(shape),
    }


GATE_UP = ("gate", "up")


def _matrix(checkpoint: Checkpoint, name: str) -> Matrix:
    tensors, int4 = checkpoint.tensors, checkpoint.int4
    weights, scales = tensors[f"{name}.weight"], tensors[f"{name}.scale"]
    if int4 is not None and int4.packs(name):
        groups = 2 * weights.shape[1] // int4.group
        return Matrix(weights, scales, unpack_nibbles(tensors[f"{name}.steps"], groups))
    if weights.size and weights.min() == -128:
        raise CheckpointError(
            f"{name}.weight holds -128; INT8 weights must be -127..127: "
            "quantise the checkpoint again with `tabwise quantize`"
        )
    return Matrix(weights, scales)


def _concatenate(matrices: list[Matrix]) -> Matrix:
    steps = [matrix.steps for matrix in matrices if matrix.steps is not None]
    return Matrix(
        np.concatenate([matrix.weights for matrix in matrices]),
        np.concatenate([matrix.scales for matrix in matrices]),
        np.concatenate(steps) if steps else None,
    )


def _pad_axis(
    array: npt.NDArray[Any], axis: int, shape: Shape, by_head: bool
) -> npt.NDArray[Any]:
    """`array` with zeros after each head, or after all, up to sixteens."""
    length = array.shape[axis]
    run = shape.head_size if by_head else length
    if run % BLOCK == 0:
        return np.ascontiguousarray(array)
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    runs = array.reshape(*before, length // run, run, *after)
    widths = [(0, 0)] * runs.ndim
    widths[axis + 1] = (0, padded(run) - run)
    wide = np.pad(runs, widths)
    return wide.reshape(*before, length // run * padded(run), *after)

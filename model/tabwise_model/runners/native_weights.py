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
from tabwise_model.quantize import expand_int4, quantize_checkpoint
from tabwise_model.runners.native_library import Shape

BLOCK = 16

Int8s = npt.NDArray[np.int8]
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
    """INT8 weights (outputs, inputs) and their scales (outputs,)."""

    weights: Int8s
    scales: Floats

    def pad(self, shape: Shape, *, out: str = "", into: str = "") -> Matrix:
        """Padded to sixteens. An axis named "heads" is padded head by head."""
        weights = _pad_axis(self.weights, 0, shape, out == "heads")
        scales = _pad_axis(self.scales, 0, shape, out == "heads")
        return Matrix(_pad_axis(weights, 1, shape, into == "heads"), scales)


def padded(count: int) -> int:
    """The next multiple of sixteen."""
    return -(-count // BLOCK) * BLOCK


def shape_of(config: ModelConfig, n_slots: int, slot_tokens: int) -> Shape:
    """The sizes that the library is created with."""
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
        norm_eps=config.norm_eps,
    )


def arrange(
    checkpoint: Checkpoint, shape: Shape
) -> Iterator[tuple[int, Tensor, Int8s | Floats, Floats | None]]:
    """(layer, tensor, data, scales) of all that the library is to load.

    Float32 matrices are quantised first, INT4 ones expanded. Raises CheckpointError.
    """
    checkpoint = expand_int4(checkpoint)
    if checkpoint.bits == 32:
        checkpoint = quantize_checkpoint(checkpoint)
    for layer in range(shape.layers):
        for tensor, matrix in _layer_matrices(checkpoint, shape, layer).items():
            yield layer, tensor, matrix.weights, matrix.scales
        for tensor, name in (
            (Tensor.ATTENTION_NORM, "attention_norm"),
            (Tensor.MLP_NORM, "mlp_norm"),
        ):
            weight = checkpoint.tensors[f"layers.{layer}.{name}.weight"]
            yield layer, tensor, _pad_axis(weight, 0, shape, False), None
    embed = _matrix(checkpoint, "embed").pad(shape)
    yield 0, Tensor.EMBED, embed.weights, embed.scales
    norm = checkpoint.tensors["norm.weight"]
    yield 0, Tensor.NORM, _pad_axis(norm, 0, shape, False), None
    yield 0, Tensor.ROPE, rope_table(checkpoint.config, shape.slot_tokens), None


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
    weights = checkpoint.tensors[f"{name}.weight"]
    if weights.size and weights.min() == -128:
        raise CheckpointError(
            f"{name}.weight holds -128; INT8 weights must be -127..127: "
            "quantise the checkpoint again with `tabwise quantize`"
        )
    return Matrix(weights, checkpoint.tensors[f"{name}.scale"])


def _concatenate(matrices: list[Matrix]) -> Matrix:
    return Matrix(
        np.concatenate([matrix.weights for matrix in matrices]),
        np.concatenate([matrix.scales for matrix in matrices]),
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

"""GPTQ: INT4 matrices that answer real inputs nearly as the float32 ones do.

A matrix is rounded input by input; what one input's rounding does to the answers, the
weights of the inputs after it make up for, as far as the inputs' correlations allow.
Blocks are taken in order, each on what the rounded ones before it put out. Source:
Frantar et al., arXiv 2210.17323. A group's step is chosen beforehand, from the weights
and each input's mean square.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.config import Family
from tabwise_model.gpt import GPT
from tabwise_model.int4 import (
    Int4Layout,
    Int4Matrix,
    choose_scale,
    choose_steps,
    round_to,
)
from tabwise_training.data import Rows, micro_batches

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

ROWS_AT_ONCE = 8
# Matrices of a block that see the same inputs, in the order of computing.
PARTS: Mapping[Family, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "llama": (
            ("attention.q", "attention.k", "attention.v"),
            ("attention.out",),
            ("mlp.gate", "mlp.up"),
            ("mlp.down",),
        ),
        "gpt2": (
            ("attention.q", "attention.k", "attention.v"),
            ("attention.out",),
            ("mlp.up",),
            ("mlp.down",),
        ),
    }
)


@attrs.frozen(kw_only=True)
class GptqOptions:
    """damping: added to every input's mean square, as a share of their mean; it keeps
    corrections small that few inputs speak for. by_importance: round the inputs of the
    largest mean square first. docs/quantisation.md has what either is worth."""

    damping: float = 0.01
    by_importance: bool = True


def gptq(
    checkpoint: Checkpoint, layout: Int4Layout, rows: Rows, options: GptqOptions
) -> dict[str, Int4Matrix]:
    """The matrices of a float32 checkpoint that the layout packs, by name.

    rows: calibration code, (count, block + 1) ids. Prints a progress bar.
    """
    model = GPT(checkpoint.config).eval()
    model.load_tensors(checkpoint.tensors)
    found: dict[str, Int4Matrix] = {}
    with torch.no_grad(), tqdm(total=len(model.layers), disable=None) as bar:
        if layout.packs("embed"):
            moments = _head_moments(model, rows)
            found["embed"] = _replace(model.embed, moments, layout, options)
        streams = _enter(model, rows)
        for number, block in enumerate(model.layers):
            for parts in PARTS[checkpoint.config.family]:
                modules = [block.get_submodule(part) for part in parts]
                moments = _input_moments(block, modules[0], streams)
                for part, module in zip(parts, modules, strict=True):
                    found[f"layers.{number}.{part}"] = _replace(
                        module, moments, layout, options
                    )
            streams = [(block(x, angles, None), angles) for x, angles in streams]
            bar.update()
    return found


def quantize_matrix(
    weight: Floats, moments: Doubles, group: int, options: GptqOptions
) -> Int4Matrix:
    """weight (out, in) in INT4; moments (in, in): the sum of x xᵀ over its inputs."""
    moments = _damped(moments, options.damping)
    squares = np.diag(moments)
    importance = (squares / squares.mean()).astype(np.float32)
    scale = choose_scale(weight, group, importance)
    steps = choose_steps(weight, scale, group, importance)
    units = (scale[:, None] * np.repeat(steps, group, axis=1)).astype(np.float32)
    order = np.argsort(-squares, kind="stable")
    if not options.by_importance:
        order = np.arange(len(squares))
    q = np.empty(weight.shape, np.int8)
    q[:, order] = _round_in_turn(
        weight[:, order].astype(np.float64),
        units[:, order],
        moments[order][:, order],
    )
    return Int4Matrix(q, steps, scale)


def _round_in_turn(weight: Doubles, units: Floats, moments: Doubles) -> Doubles:
    """q (out, in) of the weights, each input's error made up for by those after it.

    The inverse of the moments of the inputs still to come, at every input, is what the
    Cholesky factor of the whole inverse holds.
    """
    factor = np.linalg.cholesky(np.linalg.inv(moments)).T
    q = np.empty_like(weight)
    for i in range(weight.shape[1]):
        q[:, i] = round_to(weight[:, i], units[:, i])
        error = (weight[:, i] - q[:, i] * units[:, i]) / factor[i, i]
        weight[:, i + 1 :] -= np.outer(error, factor[i, i + 1 :])
    return q


def _damped(moments: Doubles, damping: float) -> Doubles:
    """An input that was never seen counts as one of the mean square of the others."""
    moments = moments.copy()
    mean = np.diag(moments).mean() or 1.0
    unseen = np.diag(moments) == 0
    moments[unseen, unseen] = mean
    moments[np.diag_indices_from(moments)] += damping * mean
    return moments


def _replace(
    module: nn.Module, moments: Doubles, layout: Int4Layout, options: GptqOptions
) -> Int4Matrix:
    """The module's weight in INT4; the module has it from now on."""
    weight = module.get_parameter("weight")
    matrix = quantize_matrix(weight.numpy(), moments, layout.group, options)
    floats = matrix.integers().astype(np.float32) * matrix.scale[:, None]
    weight.copy_(torch.from_numpy(floats))
    return matrix


Stream = tuple[Tensor, tuple[Tensor, Tensor] | None]


def _enter(model: GPT, rows: Rows) -> list[Stream]:
    """What the first block is given, batch by batch."""
    return [
        model.enter(torch.from_numpy(part[:, :-1].astype(np.int64)))
        for part in micro_batches(rows, ROWS_AT_ONCE)
    ]


def _head_moments(model: GPT, rows: Rows) -> Doubles:
    """Of what the tied head is given."""
    with _moments_of(model.norm, outputs=True) as moments:
        for part in micro_batches(rows, ROWS_AT_ONCE):
            model.hidden(torch.from_numpy(part[:, :-1].astype(np.int64)))
    return moments.numpy()


def _input_moments(
    block: nn.Module, module: nn.Module, streams: Sequence[Stream]
) -> Doubles:
    """Of what a module of the block is given."""
    with _moments_of(module, outputs=False) as moments:
        for x, angles in streams:
            block(x, angles, None)
    return moments.numpy()


@contextmanager
def _moments_of(module: nn.Module, *, outputs: bool) -> Iterator[Tensor]:
    """A matrix that grows by x xᵀ for every x that the module is given, or puts out."""
    weight = module.get_parameter("weight")
    width = weight.shape[-1]
    moments = torch.zeros(width, width, dtype=torch.float64)

    def add(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        x = (made if outputs else given[0]).flatten(0, -2)
        moments.add_((x.T @ x).double())

    handle = module.register_forward_hook(add)
    try:
        yield moments
    finally:
        handle.remove()

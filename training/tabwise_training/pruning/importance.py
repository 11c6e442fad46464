"""What a model loses without a layer, a head, or a channel of an MLP, as measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tabwise_model.gpt import GPT
from tabwise_training.data import Rows, micro_batches
from tabwise_training.tuning.tuner import rows_loss

Doubles = npt.NDArray[np.float64]
ROWS_AT_ONCE = 4


def least_important_layers(model: GPT, rows: Rows, end: int, count: int) -> list[int]:
    """The layers to leave out, one after the other: each time the one without which the
    loss rises least, those before it being gone."""
    kept = list(range(model.config.n_layer))
    left_out: list[int] = []
    for _ in range(count):
        losses = {
            i: _loss_with(model, [j for j in kept if j != i], rows, end) for i in kept
        }
        left_out.append(min(losses, key=losses.__getitem__))
        kept.remove(left_out[-1])
    return left_out


def head_importance(model: GPT, rows: Rows, end: int) -> Doubles:
    """(layers, query heads): nats more over all rows when a head says nothing."""
    config = model.config
    before = summed_loss(model, rows, end)
    found = np.empty((config.n_layer, config.n_head))
    for layer, block in enumerate(model.layers):
        for head in range(config.n_head):
            start = head * config.head_size
            with _silenced(
                block.get_submodule("attention.out"), start, start + config.head_size
            ):
                found[layer, head] = summed_loss(model, rows, end) - before
    return found


def channel_importance(model: GPT, rows: Rows, end: int) -> Doubles:
    """(layers, MLP channels): the rise of the loss without each, estimated from squared
    gradients of one pass.

    Source: Fisher pruning, arXiv 1801.05787, section 2.
    """
    config = model.config
    found = torch.zeros(config.n_layer, config.mlp_hidden, dtype=torch.float64)
    for part in micro_batches(rows, ROWS_AT_ONCE):
        with _inputs_of(
            [block.get_submodule("mlp.down") for block in model.layers]
        ) as seen:
            loss = rows_loss(model, part, end, torch.float32)
        grads = torch.autograd.grad(loss, seen)
        for layer, (x, grad) in enumerate(zip(seen, grads, strict=True)):
            felt = (x.detach() * grad).flatten(0, -2)
            found[layer] += 0.5 * (felt.double() ** 2).sum(dim=0)
    return found.numpy()


@torch.no_grad()
def summed_loss(model: GPT, rows: Rows, end: int) -> float:
    """Nats over all rows, in float32."""
    return sum(
        float(rows_loss(model, part, end, torch.float32))
        for part in micro_batches(rows, ROWS_AT_ONCE)
    )


def _loss_with(model: GPT, kept: Sequence[int], rows: Rows, end: int) -> float:
    """The loss with only these layers."""
    whole = model.layers
    model.layers = nn.ModuleList(whole[i] for i in kept)
    try:
        return summed_loss(model, rows, end)
    finally:
        model.layers = whole


@contextmanager
def _silenced(module: nn.Module, start: int, end: int) -> Iterator[None]:
    """The module's inputs start..end are zeros."""

    def silence(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        x = given[0].clone()
        x[..., start:end] = 0
        return (x,)

    handle = module.register_forward_pre_hook(silence)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _inputs_of(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """A list of what each module is given, in the order of computing, for gradients."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor]) -> None:
        x = given[0]
        seen.append(x if x.requires_grad else x.requires_grad_())

    handles = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()

"""Muon in stacks is torch's Muon; both optimisers take a step, or neither does."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Muon

from tabwise_model.config import ModelConfig
from tabwise_model.gpt import GPT
from tabwise_training.config import OptimConfig
from tabwise_training.optim import (
    Optimizers,
    StackedMuon,
    clip_gradients,
    orthogonalise,
)

SHAPES = [(12, 8), (8, 8), (4, 8), (12, 8), (8, 12), (8, 8)]


def matrices() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape) * 0.02) for shape in SHAPES]


def test_a_step_is_that_of_each_matrix_by_itself() -> None:
    stacked, single = matrices(), matrices()
    options: dict[str, Any] = {"lr": 0.03, "momentum": 0.9, "weight_decay": 0.1}
    ours = StackedMuon(stacked, **options)
    theirs = Muon(single, adjust_lr_fn="original", **options)
    for _ in range(4):
        for one, other in zip(stacked, single, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        ours.step()
        theirs.step()  # type: ignore[no-untyped-call]
    for one, other in zip(stacked, single, strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=0, atol=0)
        mine = ours.state[one]["momentum_buffer"]
        torch.testing.assert_close(mine, theirs.state[other]["momentum_buffer"])


def test_a_matrix_without_a_gradient_stays() -> None:
    moved, still = matrices()[:2]
    before = still.detach().clone()
    moved.grad = torch.ones_like(moved)
    StackedMuon([moved, still], lr=0.1, momentum=0.9, weight_decay=0.1).step()
    assert torch.equal(still.detach(), before)


@pytest.mark.parametrize("shape", [(3, 6, 40), (3, 40, 6)])
def test_singular_values_are_brought_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    found = orthogonalise(torch.randn(shape)).float()
    values = torch.linalg.svdvals(found)
    assert found.shape == shape
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.3


@pytest.mark.parametrize("bad", ["layers.0.mlp.up.weight", "embed.weight"])
def test_an_overflow_in_one_optimiser_leaves_out_the_whole_update(bad: str) -> None:
    sizes: dict[str, Any] = {"n_layer": 1, "n_head": 1, "n_kv_head": 1, "n_embd": 16}
    model = GPT(ModelConfig(vocab_size=64, block_size=8, mlp_hidden=16, **sizes))
    optimizers = Optimizers(model, OptimConfig())
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.zeros(()))  # makes its scale
    before = [p.detach().clone() for p in model.parameters()]
    for name, p in model.named_parameters():
        p.grad = torch.full_like(p, torch.inf if name == bad else 1.0)
    scale = scaler.get_scale()
    optimizers.unscale(scaler)
    optimizers.step(1.0, scaler, clip_gradients(model, 1.0))
    for p, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(p.detach(), old)
        assert p.grad is None
    assert scaler.get_scale() < scale

"""Muon for the hidden matrices, AdamW for embeddings, norms and biases; schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import AdamW, Muon, Optimizer

from tabwise_model.gpt import GPT
from tabwise_training.config import OptimConfig, RunConfig
from tabwise_training.errors import TrainingError


class StackedMuon(Muon):
    """torch's Muon with matrices of one shape orthogonalised as one stack: a few
    hundred kernels a step instead of thousands, which a GPU waits for. Nesterov's
    momentum, and rates as Jordan adjusts them, alone."""

    def __init__(
        self,
        matrices: Iterable[Tensor],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        super().__init__(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.shape, []).append(parameter)
            for matrices in shapes.values():
                self._update(matrices, group)

    def _update(self, matrices: list[Tensor], group: Mapping[str, Any]) -> None:
        grads = [p.grad for p in matrices if p.grad is not None]
        for p in matrices:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        averages = [self.state[p]["momentum_buffer"] for p in matrices]
        torch._foreach_lerp_(averages, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, averages, group["momentum"])  # Nesterov
        updates = orthogonalise(torch.stack(ahead))
        rows, columns = matrices[0].shape
        lr = group["lr"] * max(1, rows / columns) ** 0.5
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(matrices, updates.float().unbind(), alpha=-lr)


def orthogonalise(x: Tensor) -> Tensor:
    """(N, R, C) -> (N, R, C) bfloat16: each matrix with its singular values brought
    near 1, by five Newton-Schulz iterations.

    Source: Keller Jordan, "Muon" (2024), with its coefficients.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = x.shape[1] > x.shape[2]
    y = x.bfloat16()
    if tall:
        y = y.mT
    y = y / y.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = y @ y.mT
        update = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        y = torch.baddbmm(y, update, y, beta=a)
    return y.mT if tall else y


class Optimizers:
    """Both optimisers as one, with their state as flat named tensors."""

    def __init__(self, model: GPT, config: OptimConfig) -> None:
        named = dict(model.named_parameters())
        hidden = {
            name
            for name, p in named.items()
            if p.dim() == 2 and name.startswith("layers.") and config.muon_lr > 0
        }
        self._names = {
            "muon": [name for name in named if name in hidden],
            "adamw": [name for name in named if name not in hidden],
        }
        self._all: dict[str, Optimizer] = {}
        self._parameters = named
        if hidden:
            self._all["muon"] = StackedMuon(
                [named[name] for name in self._names["muon"]],
                lr=config.muon_lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
            )
        self._all["adamw"] = self._make_adamw(config)
        self._peaks = {
            name: [group["lr"] for group in optimizer.param_groups]
            for name, optimizer in self._all.items()
        }

    def _make_adamw(self, config: OptimConfig) -> AdamW:
        matrices: list[Tensor] = []
        vectors: list[Tensor] = []
        for name in self._names["adamw"]:
            parameter = self._parameters[name]
            (matrices if parameter.dim() == 2 else vectors).append(parameter)
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=config.adam_lr, betas=(config.beta1, config.beta2))

    def unscale(self, scaler: GradScaler) -> None:
        """Take the loss scale out of all gradients."""
        for optimizer in self._all.values():
            scaler.unscale_(optimizer)

    def step(self, scale: float, scaler: GradScaler, norm: float) -> None:
        """One update at `scale` times the peak learning rates; gradients are freed.

        norm: that of all gradients. Where it is not finite nothing is updated, not
        even by the optimiser whose own gradients did not overflow.
        """
        for name, optimizer in self._all.items():
            for group, peak in zip(
                optimizer.param_groups, self._peaks[name], strict=True
            ):
                group["lr"] = peak * scale
            if math.isfinite(norm):
                scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        scaler.update()

    def state(self) -> dict[str, Tensor]:
        """Every state tensor as `optimizer/parameter/slot`, on the CPU."""
        found = {}
        for kind, optimizer in self._all.items():
            for name in self._names[kind]:
                for slot, value in optimizer.state[self._parameters[name]].items():
                    found[f"{kind}/{name}/{slot}"] = value.detach().cpu()
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave.

        Raises TrainingError if that was of other optimisers.
        """
        for key, value in state.items():
            kind, name, slot = key.split("/")
            if name not in self._names.get(kind, ()):
                raise TrainingError(
                    f"{name} was updated by {kind}, and is not by this recipe; give "
                    "the optim.muon_lr that the run was begun with, or another run.out"
                )
            parameter = self._parameters[name]
            place = "cpu" if slot == "step" else parameter.device
            self._all[kind].state[parameter][slot] = value.to(place, copy=True)


def learning_rate_scale(step: int, run: RunConfig) -> float:
    """Share of the peak learning rate at `step` (from 0), warm-up included."""
    if step < run.warmup_steps:
        return (step + 1) / run.warmup_steps
    if run.schedule == "cosine":
        done = (step - run.warmup_steps) / max(1, run.steps - run.warmup_steps)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    else:
        left = (run.steps - step) / max(1.0, run.decay_share * run.steps)
        fall = min(1.0, max(0.0, left))
    return run.final_lr + (1 - run.final_lr) * fall


def clip_gradients(model: GPT, limit: float) -> float:
    """Scale gradients down to a global norm of `limit`; returns the norm before."""
    return float(torch.nn.utils.clip_grad_norm_(model.parameters(), limit))

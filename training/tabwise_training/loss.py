"""Cross-entropy through the tied head without ever holding all logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tabwise_model.gpt import autocast_to_bfloat16

IGNORE = -100  # a target that does not count
CPU_CHUNK = 256  # rows: at a vocabulary of 8,192 their logits stay near in the caches
GPU_CHUNK = 8192


class Teacher(NamedTuple):  # torch.compile makes no frozen records
    """Another model's final states (..., C') of the same tokens, its head (V, C'), and
    how much what it expects counts beside the tokens themselves, 0..1."""

    hidden: Tensor
    weight: Tensor
    share: float

    def expects(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """(rows, V): its probabilities, times the share. dtype: of its logits."""
        hidden = self.hidden.flatten(0, -2)[rows].to(dtype)
        logits = hidden @ self.weight.to(dtype).T
        return torch.softmax(logits.float(), dim=1).mul_(self.share)


SoftmaxLoss = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


class HeadCrossEntropy(torch.autograd.Function):
    """Sum of -log softmax(hidden @ weight.T)[target] over targets that count; with a
    teacher, against what it expects and the target in its share.

    Logits exist for `chunk` rows at a time and their gradient is formed at once, so a
    batch of N tokens needs chunk × V floats, not 3 × N × V.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        chunk: int,
        teacher: Teacher | None,
        softmax_loss: SoftmaxLoss,
    ) -> Tensor:
        """hidden (N, C), weight (V, C), targets (N,) -> () float32."""
        with torch.autocast(hidden.device.type, enabled=False):
            head = weight.to(hidden.dtype)
            grad_hidden = torch.empty_like(hidden)
            grad_weight = torch.zeros_like(weight)
            total = torch.zeros((), device=hidden.device)
            for start in range(0, len(hidden), chunk):
                rows = slice(start, start + chunk)
                soft = None if teacher is None else teacher.expects(rows, hidden.dtype)
                logits = hidden[rows] @ head.T
                loss, grad = softmax_loss(logits, targets[rows], soft)
                total += loss
                grad_hidden[rows] = grad @ head
                grad_weight += grad.T @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        rest = (None,) * 4
        return grad_hidden * grads[0], grad_weight * grads[0], *rest


def head_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    chunk: int | None = None,
    teacher: Teacher | None = None,
    softmax_loss: SoftmaxLoss | None = None,
) -> Tensor:
    """Summed loss in nats; see `HeadCrossEntropy`. hidden (..., C), targets (...).

    Under autocast to bfloat16 the head multiplies in bfloat16, as `F.linear` would.
    softmax_loss: `plain_softmax_loss`, compiled. Compile no more than that: torch 2.11
    then gave zeros for the gradients that `forward` fills in place and saves.
    """
    # not in float16, where the gradient of an unscaled loss would underflow
    if autocast_to_bfloat16(hidden.device):
        hidden = hidden.bfloat16()
    chunk = chunk or (CPU_CHUNK if hidden.device.type == "cpu" else GPU_CHUNK)
    loss: Tensor = HeadCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, -2),
        weight,
        targets.flatten(),
        chunk,
        teacher,
        softmax_loss or plain_softmax_loss,
    )
    return loss


def plain_softmax_loss(
    logits: Tensor, targets: Tensor, soft: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Summed loss of logits (N, V), and its gradient in logits' dtype.

    soft: (N, V), what is expected besides the targets; what its rows leave of 1 is the
    targets' part.
    """
    shown = (targets != IGNORE)[:, None]
    safe = targets.clamp(min=0)[:, None]
    logs = torch.log_softmax(logits.float(), dim=1)
    of_target = logs.gather(1, safe)
    if soft is None:
        loss = -(of_target * shown).sum()
        grad = logs.exp_().mul_(shown).to(logits.dtype)
        return loss, grad.scatter_(1, safe, (of_target.expm1() * shown).to(grad.dtype))
    rest = 1 - soft.sum(dim=1, keepdim=True)
    loss = -((of_target * rest + (soft * logs).sum(dim=1, keepdim=True)) * shown).sum()
    p = logs.exp_().sub_(soft).scatter_add_(1, safe, -rest)
    return loss, p.mul_(shown).to(logits.dtype)

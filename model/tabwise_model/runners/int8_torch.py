"""The GPT with its matrices left in INT8, for GPUs: half of bfloat16's memory, and half
of what a decode step reads.

Scales are applied to the products, so results are those of the multiplied-out weights
but for the rounding of the activations' own dtype.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.gpt import GPT

FEW_ROWS = 16  # up to here weights are read as they are; above, multiplied out first


class Int8Linear(nn.Module):
    """x (..., in) -> (..., out): x @ (q * scale).T + bias. q (out, in) int8."""

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        self.weight: Tensor
        self.scale: Tensor
        self.bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        out: Tensor
        if len(rows) <= FEW_ROWS:
            out = torch._weight_int8pack_mm(rows, self.weight, self.scale)
        else:
            out = F.linear(rows, self.weight.to(x.dtype)) * self.scale
        if self.bias is not None:
            out = out + self.bias
        return out.view(*x.shape[:-1], -1)


class Int8Embedding(nn.Module):
    """Rows of an INT8 matrix by token; `matrix` multiplies by all of it."""

    def __init__(self, matrix: Int8Linear) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, tokens: Tensor) -> Tensor:
        scale = self.matrix.scale[tokens]
        return self.matrix.weight[tokens].to(scale.dtype) * scale[..., None]


class Int8GPT(GPT):
    """A GPT for inference alone, over an INT8 checkpoint's own matrices."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
        with torch.device("meta"):
            super().__init__(checkpoint.config)
        tensors = {n: torch.from_numpy(a) for n, a in checkpoint.tensors.items()}
        for name, module in list(self.named_modules()):
            if isinstance(module, nn.Linear):
                self._replace(name, _matrix(tensors, name, dtype))
        self.embed: nn.Module = Int8Embedding(  # type: ignore[assignment]
            _matrix(tensors, "embed", dtype)
        )
        for name, parameter in list(self.named_parameters()):
            if parameter.is_meta:
                self._replace(name, nn.Parameter(tensors[name].to(dtype)))
        self.eval()

    def logits(self, hidden: Tensor) -> Tensor:
        found: Tensor = self.embed.matrix(hidden)  # type: ignore[operator]
        return found

    def _replace(self, name: str, new: nn.Module | nn.Parameter) -> None:
        parent, _, child = name.rpartition(".")
        setattr(self.get_submodule(parent), child, new)


def _matrix(tensors: dict[str, Tensor], name: str, dtype: torch.dtype) -> Int8Linear:
    bias = tensors.get(f"{name}.bias")
    return Int8Linear(
        tensors[f"{name}.weight"],
        tensors[f"{name}.scale"].to(dtype),
        None if bias is None else bias.to(dtype),
    )

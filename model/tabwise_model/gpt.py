"""The GPT in torch: what training optimises and what every other runner must equal.

B batch, T tokens, C channels, H heads, D head size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabwise_model.attention import causal_attention
from tabwise_model.config import ModelConfig
from tabwise_model.kv_cache import Past

Angles = tuple[Tensor, Tensor]  # cosines and sines, see Rope


class GPT(nn.Module):
    """A decoder-only transformer of either family; parameters are named as in
    `checkpoint.py`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = (
            nn.Embedding(config.block_size, config.n_embd)
            if config.family == "gpt2"
            else None
        )
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.n_layer))
        self.norm = make_norm(config)
        self.rope = Rope(config) if config.family == "llama" else None
        self.dropout = config.dropout
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights: normal 0.02, residual outputs smaller by 1/sqrt(2 L).

        Source: GPT-2's initialisation, as nanoGPT documents it.
        """
        residual = 0.02 / math.sqrt(2 * self.config.n_layer)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                small = name.endswith(("attention.out.weight", "mlp.down.weight"))
                nn.init.normal_(parameter, std=residual if small else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.ones_(parameter)

    def hidden(self, tokens: Tensor, cache: Past | None = None) -> Tensor:
        """Final hidden states (B, T, C) of tokens (B, T), normed, before the head.

        With a cache, tokens continue its slots and are appended to them.
        """
        x, angles = self.enter(tokens, cache)
        for block in self.layers:
            x = block(x, angles, cache)
        out: Tensor = self.norm(x)
        return out

    def enter(
        self, tokens: Tensor, cache: Past | None = None
    ) -> tuple[Tensor, Angles | None]:
        """What the first block is given: (B, T, C) of tokens, and RoPE's angles."""
        if cache is None:
            places = torch.arange(tokens.shape[1], device=tokens.device)[None]
        else:
            places = cache.positions
        x = self.embed(tokens)
        if self.positions is not None:
            x = x + self.positions(places)
        x = F.dropout(x, self.dropout, self.training)
        if autocast_to_bfloat16(x.device):
            x = x.bfloat16()  # and with it the residual stream: half of its bytes
        return x, self.rope(places) if self.rope is not None else None

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., C) -> (..., V), through the tied embedding."""
        return F.linear(hidden, self.embed.weight)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy (nats) of targets (B, T) after tokens (B, T).

        A target of -100 does not count.
        """
        logits = self.logits(self.hidden(tokens))
        return F.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100
        )

    def load_tensors(self, tensors: Mapping[str, Any]) -> None:
        """Take float32 arrays by name, exactly this model's."""
        state = {name: torch.from_numpy(array) for name, array in tensors.items()}
        self.load_state_dict(state)

    def to_tensors(self) -> dict[str, Any]:
        """Float32 numpy copies of all parameters, by name."""
        return {
            name: p.detach().to("cpu", torch.float32, copy=True).numpy()
            for name, p in self.named_parameters()
        }


class Block(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.mlp_norm = make_norm(config)
        self.mlp = SwiGLU(config) if config.family == "llama" else GeluMLP(config)
        self.dropout = config.dropout

    def forward(self, x: Tensor, angles: Angles | None, cache: Past | None) -> Tensor:
        mixed = self.attention(self.attention_norm(x), angles, cache)
        x = x + F.dropout(mixed, self.dropout, self.training)
        return x + F.dropout(self.mlp(self.mlp_norm(x)), self.dropout, self.training)


class Attention(nn.Module):
    """Causal self-attention with grouped keys and values (arXiv 2305.13245)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_size = config.head_size
        self.groups = config.n_head // config.n_kv_head
        self.dropout = config.dropout
        bias = config.family == "gpt2"
        kv = config.n_kv_head * config.head_size
        self.q = nn.Linear(config.n_embd, config.query_width, bias=bias)
        self.k = nn.Linear(config.n_embd, kv, bias=bias)
        self.v = nn.Linear(config.n_embd, kv, bias=bias)
        self.out = nn.Linear(config.query_width, config.n_embd, bias=bias)

    def forward(self, x: Tensor, angles: Angles | None, cache: Past | None) -> Tensor:
        split = (-1, self.head_size)
        q, k, v = (  # (B, H, T, D), (B, KV, T, D) twice
            part.view(*x.shape[:-1], *split).transpose(1, 2)
            for part in together(x, self.q, self.k, self.v)
        )
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        dropout = self.dropout if self.training else 0.0
        if cache is None and q.device.type == "cpu" and not dropout:
            mixed = causal_attention(q, k, v)
        else:
            if self.groups > 1:
                k = k.repeat_interleave(self.groups, dim=1)
                v = v.repeat_interleave(self.groups, dim=1)
            mixed = F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=None if cache is None else cache.mask,
                is_causal=cache is None,
                dropout_p=dropout,
            )
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (arXiv 2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.n_embd, config.mlp_hidden, bias=False)
        self.up = nn.Linear(config.n_embd, config.mlp_hidden, bias=False)
        self.down = nn.Linear(config.mlp_hidden, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = together(x, self.gate, self.up)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


class GeluMLP(nn.Module):
    """GPT-2's MLP, with the tanh form of GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, config.mlp_hidden)
        self.down = nn.Linear(config.mlp_hidden, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.up(x), approximate="tanh"))
        return out


def autocast_to_bfloat16(device: torch.device) -> bool:
    """Not for float16, in which a residual stream can overflow."""
    kind = device.type
    enabled = torch.is_autocast_enabled(kind)
    return enabled and torch.get_autocast_dtype(kind) == torch.bfloat16


def together(x: Tensor, *layers: nn.Linear) -> list[Tensor]:
    """Each layer's output of x (..., C). In training as one product, which reads x and
    the gradient of x once; not otherwise, since it copies the weights."""
    if not layers[0].training:
        return [layer(x) for layer in layers]
    weight = torch.cat([layer.weight for layer in layers])
    biased = layers[0].bias is not None
    bias = torch.cat([layer.bias for layer in layers]) if biased else None
    found = F.linear(x, weight, bias)
    return list(torch.split(found, [layer.out_features for layer in layers], -1))


class Rope(nn.Module):
    """Rotary position angles (arXiv 2104.09864); no parameters, nothing saved."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.theta = config.rope_theta
        self.head_size = config.head_size

    def forward(self, positions: Tensor) -> Angles:
        """cos, sin (B or 1, 1, T, D/2) float32 of positions (B or 1, T)."""
        half = torch.arange(0, self.head_size, 2, device=positions.device)
        rate = self.theta ** (-half.float() / self.head_size)
        angle = positions[:, None, :, None].float() * rate
        return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x (B, H, T, D) by pairs (i, i + D/2), as Hugging Face's Llama does."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class RMSNorm(nn.RMSNorm):
    """torch's, its weight read in the input's dtype: torch has no fused mixed form."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def make_norm(config: ModelConfig) -> nn.Module:
    if config.family == "gpt2":
        return nn.LayerNorm(config.n_embd, config.norm_eps)
    return RMSNorm(config.n_embd, config.norm_eps)

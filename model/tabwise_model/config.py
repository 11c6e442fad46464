"""The shape of a GPT: one frozen record that training, serving and export share."""

from __future__ import annotations

from typing import Any, Literal

import attrs

Family = Literal["llama", "gpt2"]


class ConfigError(ValueError):
    """A model shape that cannot be built; the message names the field and remedy."""


@attrs.frozen(kw_only=True)
class ModelConfig:
    """Shape of one GPT.

    `llama`: RoPE, RMSNorm, SwiGLU, grouped-query attention, no biases.
    `gpt2`: learned positions, LayerNorm, GELU (tanh form), biases; n_kv_head = n_head.
    Sizes are counts; `block_size` is the longest context in tokens. `head_dim` is given
    where a head's size is not n_embd / n_head, as in a model that has lost heads.
    """

    family: Family = "llama"
    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_kv_head: int
    n_embd: int
    mlp_hidden: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    dropout: float = 0.0
    head_dim: int | None = None

    def __attrs_post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"{name} must be at least 1, got {getattr(self, name)}"
                )
        if self.family not in ("llama", "gpt2"):
            raise ConfigError(f"family must be 'llama' or 'gpt2', got {self.family!r}")
        if self.vocab_size > 65_536:
            raise ConfigError(
                f"vocab_size must fit uint16 (65536), got {self.vocab_size}"
            )
        if self.head_dim is None and self.n_embd % self.n_head:
            raise ConfigError(
                f"n_embd {self.n_embd} must divide by n_head {self.n_head}"
            )
        if self.n_head % self.n_kv_head:
            raise ConfigError(
                f"n_head {self.n_head} must divide by n_kv_head {self.n_kv_head}"
            )
        if self.family == "gpt2" and self.n_kv_head != self.n_head:
            raise ConfigError("family gpt2 needs n_kv_head = n_head")
        if self.family == "gpt2" and self.head_dim is not None:
            raise ConfigError("family gpt2 cannot have a head_dim of its own")
        if self.head_size < 1:
            raise ConfigError(f"head_dim must be at least 1, got {self.head_dim}")
        if self.family == "llama" and self.head_size % 2:
            raise ConfigError(f"head size must be even for RoPE, got {self.head_size}")

    @property
    def head_size(self) -> int:
        if self.head_dim is not None:
            return self.head_dim
        return self.n_embd // self.n_head

    @property
    def query_width(self) -> int:
        """Channels of all query heads: n_embd unless heads were lost."""
        return self.n_head * self.head_size

    def to_json(self) -> dict[str, Any]:
        """Every field but a head_dim that says nothing."""
        found = attrs.asdict(self)
        if self.head_dim is None:
            del found["head_dim"]
        return found

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelConfig:
        """Build from `to_json`'s form. Raises ConfigError naming an unknown or missing
        key."""
        known = {field.name for field in attrs.fields(cls)}
        for key in data.keys() - known:
            raise ConfigError(
                f"unknown model config key {key!r}; known: {sorted(known)}"
            )
        required = {f.name for f in attrs.fields(cls) if f.default is attrs.NOTHING}
        for key in required - data.keys():
            raise ConfigError(f"model config lacks {key!r}")
        return cls(**data)


_POSITIVE = (
    "vocab_size",
    "block_size",
    "n_layer",
    "n_head",
    "n_kv_head",
    "n_embd",
    "mlp_hidden",
)

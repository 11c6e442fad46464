"""Tiny random models of both families."""

import attrs
import torch

from support.tokenizer import TOKENIZER
from tabwise_model.checkpoint import Checkpoint
from tabwise_model.config import Family, ModelConfig
from tabwise_model.gpt import GPT

LLAMA = ModelConfig(
    vocab_size=TOKENIZER.vocab_size,
    block_size=64,
    n_layer=2,
    n_head=4,
    n_kv_head=2,
    n_embd=32,
    mlp_hidden=48,
)
# Widths that groups of 32 fill, for INT4.
EVEN = attrs.evolve(LLAMA, n_embd=64, mlp_hidden=96)
SHAPES: dict[Family, ModelConfig] = {
    "llama": LLAMA,
    "gpt2": attrs.evolve(LLAMA, family="gpt2", n_kv_head=4),
}


def random_checkpoint(family: Family, seed: int = 0) -> Checkpoint:
    """A tiny model of this family; see `checkpoint_of`."""
    return checkpoint_of(SHAPES[family], seed)


def checkpoint_of(config: ModelConfig, seed: int = 0) -> Checkpoint:
    """A random model with weights large enough that tokens have clear winners."""
    torch.manual_seed(seed)
    model = GPT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6)
    return Checkpoint(
        config=model.config, tokenizer=TOKENIZER, tensors=model.to_tensors()
    )

"""Checkpoints on disk for real processes."""

from pathlib import Path

import attrs

from support.models import LLAMA, random_checkpoint
from support.tokenizer import TOKENIZER
from tabwise_model.checkpoint import Checkpoint, save_checkpoint
from tabwise_model.gpt import GPT
from tabwise_model.quantize import quantize_checkpoint


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """A tiny random INT8 model; what it says is noise, but it says it for real."""
    save_checkpoint(folder, quantize_checkpoint(random_checkpoint("llama", seed)))
    return folder


def tiny_checkpoint(folder: Path) -> Path:
    """One in full precision that reads windows of 160 tokens."""
    model = GPT(attrs.evolve(LLAMA, mlp_hidden=64, block_size=160))
    checkpoint = Checkpoint(
        config=model.config, tokenizer=TOKENIZER, tensors=model.to_tensors()
    )
    save_checkpoint(folder, checkpoint)
    return folder

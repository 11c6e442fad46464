"""Checkpoints on disk for real processes."""

from pathlib import Path

from support.models import random_checkpoint
from tabwise_model.checkpoint import save_checkpoint
from tabwise_model.quantize import quantize_checkpoint


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """A tiny random INT8 model; what it says is noise, but it says it for real."""
    save_checkpoint(folder, quantize_checkpoint(random_checkpoint("llama", seed)))
    return folder

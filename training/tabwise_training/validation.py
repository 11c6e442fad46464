"""A word on how good a model is by now: bits per byte of the validation split."""

from __future__ import annotations

from pathlib import Path

from tabwise_model.checkpoint import Checkpoint, count_parameters
from tabwise_model.gpt import GPT
from tabwise_model.quantize import dequantize_checkpoint
from tabwise_training.data import Documents, Rows, plain_rows
from tabwise_training.tuning.tuner import rows_bits_per_byte

ROWS = 32


def model_of(checkpoint: Checkpoint) -> GPT:
    """The checkpoint as it computes in float32, not to be trained."""
    model = GPT(checkpoint.config).eval().requires_grad_(False)
    model.load_tensors(dequantize_checkpoint(checkpoint).tensors)
    return model


def validation_rows(checkpoint: Checkpoint, folder: Path) -> Rows:
    """A few rows of a prepared corpus, as long as the checkpoint's context."""
    documents = Documents(folder, "val", checkpoint.tokenizer)
    block = checkpoint.config.block_size
    return plain_rows(documents, checkpoint.tokenizer, block, ROWS)


def say_bits(label: str, checkpoint: Checkpoint, rows: Rows) -> None:
    """Print size and bits per byte on one line."""
    bits = rows_bits_per_byte(model_of(checkpoint), checkpoint.tokenizer, rows)
    count = count_parameters(checkpoint.config) / 1e6
    print(f"{label:10} {count:7.2f}M weights {bits:7.4f} bits per byte", flush=True)

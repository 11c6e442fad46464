"""What every export starts from: float32 tensors that are known to be sound."""

from __future__ import annotations

import numpy as np

from tabwise_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    Tensors,
    check_tensors,
)
from tabwise_model.quantize import check_finite, dequantize_checkpoint

FLOAT16_MAX = 65_504.0


class ExportError(CheckpointError):
    """A checkpoint that a format cannot hold; the message names what and remedy."""


def float_tensors(checkpoint: Checkpoint) -> Tensors:
    """The checkpoint's tensors in float32, INT8 and INT4 ones multiplied out.

    Raises CheckpointError naming the first that is missing, extra, misshapen or not
    finite, or a tokenizer that has more ids than the embedding has rows.
    """
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    check_tensors(config, checkpoint.tensors, checkpoint.bits, checkpoint.int4)
    if tokenizer.vocab_size > config.vocab_size:
        raise ExportError(
            f"the tokenizer has {tokenizer.vocab_size} ids, the model only "
            f"{config.vocab_size}; they belong to different checkpoints"
        )
    plain = dequantize_checkpoint(checkpoint)
    check_finite(plain)
    return dict(plain.tensors)


def check_float16(tensors: Tensors) -> None:
    """Raise ExportError naming the first tensor with a value over float16's range."""
    for name, array in tensors.items():
        if np.abs(array).max() > FLOAT16_MAX:
            raise ExportError(f"{name} has values that fp16 cannot hold; use fp32")

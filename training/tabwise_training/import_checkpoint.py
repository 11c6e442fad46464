"""`tabwise import`: a Hugging Face folder becomes a Tabwise checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from tabwise_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    count_parameters,
    save_checkpoint,
)
from tabwise_model.export.from_huggingface import read_huggingface
from tabwise_training.destination import add_force, check_folder, writing
from tabwise_training.errors import TrainingError

ERRORS = (TrainingError, CheckpointError)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a Llama- or GPT-2-shaped folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    source, out = arguments.folder, arguments.out
    check_folder(out, force=arguments.force, source=source)
    checkpoint = read_huggingface(source)
    with writing(out):
        save_checkpoint(out, checkpoint)
    print(f"{source} -> {out}")
    print(describe(checkpoint))
    return 0


def describe(checkpoint: Checkpoint) -> str:
    """One line: what kind of model, and how large."""
    config, count = checkpoint.config, count_parameters(checkpoint.config)
    return (
        f"{config.family}, {count / 1e6:.2f}M parameters: {config.n_layer} layers, "
        f"{config.n_head} heads ({config.n_kv_head} KV), width {config.n_embd}, "
        f"context {config.block_size}, vocabulary {checkpoint.tokenizer.vocab_size} "
        f"of {config.vocab_size}"
    )

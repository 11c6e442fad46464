"""Where a run's first weights come from."""

from __future__ import annotations

from pathlib import Path

import attrs

from tabwise_model.checkpoint import CONFIG, SUMS, Checkpoint, load_checkpoint
from tabwise_model.config import ModelConfig
from tabwise_model.export.from_huggingface import read_huggingface
from tabwise_model.gpt import GPT
from tabwise_model.quantize import dequantize_checkpoint
from tabwise_model.tokenizer import Tokenizer
from tabwise_training.errors import TrainingError
from tabwise_training.run_state import describe_difference

OPENAI = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")


def initial_model(source: str, shape: ModelConfig, tokenizer: Tokenizer) -> GPT:
    """A model of this shape with the weights that `source` names.

    source: see `RunConfig.init_from`. Raises TrainingError if it is of another shape or
    vocabulary.
    """
    if source == "scratch":
        return GPT(shape)
    checkpoint = read_source(source)
    if not checkpoint.tokenizer.is_same(tokenizer):
        raise TrainingError(
            f"{source} has another vocabulary, or splits text in another way, than the "
            f"data; prepare it with `tabwise prepare --tokenizer` and that of {source}"
        )
    checkpoint = crop_block(checkpoint, shape.block_size)
    if attrs.evolve(checkpoint.config, dropout=shape.dropout) != shape:
        difference = describe_difference(checkpoint.config, shape)
        raise TrainingError(f"{source} is of another shape: it has {difference}")
    model = GPT(shape)
    model.load_tensors(dequantize_checkpoint(checkpoint).tensors)
    return model


def crop_block(checkpoint: Checkpoint, block_size: int) -> Checkpoint:
    """The same model with a shorter context; itself if it is not longer."""
    if checkpoint.config.block_size <= block_size:
        return checkpoint
    tensors = dict(checkpoint.tensors)
    if "positions.weight" in tensors:
        tensors["positions.weight"] = tensors["positions.weight"][:block_size]
    config = attrs.evolve(checkpoint.config, block_size=block_size)
    return attrs.evolve(checkpoint, config=config, tensors=tensors)


def read_source(source: str) -> Checkpoint:
    """A Tabwise or Hugging Face folder, or an OpenAI model of that name."""
    folder = Path(source)
    if (folder / SUMS).is_file():
        return load_checkpoint(folder)
    if (folder / CONFIG).is_file():
        return read_huggingface(folder)
    if source in OPENAI:
        return read_huggingface(_download(source))
    raise TrainingError(
        f"init_from {source!r} is no checkpoint's folder; it may be scratch, a folder, "
        f"or one of {', '.join(OPENAI)}"
    )


def _download(name: str) -> Path:
    """OpenAI's weights through huggingface_hub, from its cache when they are there."""
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"init_from {name!r} needs huggingface_hub (pip install huggingface_hub), "
            "or a folder that holds the model"
        ) from error
    wanted = ["config.json", "model.safetensors", "tokenizer.json"]
    try:
        return Path(
            snapshot_download(f"openai-community/{name}", allow_patterns=wanted)
        )
    except Exception as error:
        raise TrainingError(f"cannot download {name!r}: {error}") from error

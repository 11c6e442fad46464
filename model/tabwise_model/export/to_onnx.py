"""A Tabwise checkpoint as an ONNX graph with a cache of keys and values.

FOLDER/model.onnx and, as for Hugging Face, config and tokenizer beside it. B batch, T
new tokens, P earlier ones, each of any size; names are those that Hugging Face's
optimum gives:

input_ids (B, T), position_ids (B, T), attention_mask (B, P + T), 0 for padding: int64
past_key_values.N.{key,value} (B, KV heads, P, head size) of layer N
logits (B, T, V), present.N.{key,value} (B, KV heads, P + T, head size)
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.config import ModelConfig
from tabwise_model.export.source import ExportError, check_float16, float_tensors
from tabwise_model.export.to_huggingface import (
    check_heads,
    documents,
    write_documents,
)
from tabwise_model.folders import fresh_folder
from tabwise_model.gpt import GPT

MODEL = "model.onnx"
DATA_FROM = 1_500_000_000  # bytes of weights; more go into a file of their own

ONNX_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "fp16": torch.float16}
)


def write_onnx(folder: Path, checkpoint: Checkpoint, dtype: str) -> None:
    """Replace `folder` with the checkpoint as ONNX, atomically.

    dtype: of weights, logits, keys and values, one of ONNX_DTYPES. Raises
    CheckpointError before anything is written.
    """
    if dtype not in ONNX_DTYPES:
        names = ", ".join(ONNX_DTYPES)
        raise ExportError(f"dtype must be one of {names}, got {dtype!r}")
    tensors = float_tensors(checkpoint)
    check_heads(checkpoint.config)  # its config.json is for transformers
    if dtype == "fp16":
        check_float16(tensors)
    model = GPT(checkpoint.config)
    model.load_tensors(tensors)
    program = export_program(model.to(ONNX_DTYPES[dtype]))
    files = documents(checkpoint, dtype)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    with fresh_folder(folder) as fresh:
        program.save(fresh / MODEL, external_data=size > DATA_FROM)
        write_documents(fresh, files)


def export_program(model: GPT) -> Any:
    """The graph of `Stepped(model)`, every size but the model's own left open."""
    stepped = Stepped(model).eval()
    shape, dtype = model.config, model.embed.weight.dtype
    batch, tokens, earlier = 2, 3, 4  # any numbers but 0 and 1
    kept = (batch, shape.n_kv_head, earlier, shape.head_size)
    ids = torch.zeros(batch, tokens, dtype=torch.long)
    mask = torch.ones(batch, earlier + tokens, dtype=torch.long)
    past = [torch.zeros(kept, dtype=dtype) for _ in cache_names(shape)]
    of_ids = {0: "batch", 1: "tokens"}
    of_past = {0: "batch", 2: "past"}
    with _quiet():
        return torch.onnx.export(
            stepped,
            (ids, ids.clone(), mask, past),  # one tensor given twice is one input
            input_names=[
                *("input_ids", "position_ids", "attention_mask"),
                *(f"past_key_values.{name}" for name in cache_names(shape)),
            ],
            output_names=[
                "logits",
                *(f"present.{name}" for name in cache_names(shape)),
            ],
            dynamic_shapes=(
                *(of_ids, of_ids, {0: "batch", 1: "past + tokens"}),
                [of_past] * len(past),
            ),
            dynamo=True,
            verbose=False,
        )


def cache_names(shape: ModelConfig) -> list[str]:
    """`N.key` and `N.value` of every layer, in the graph's order."""
    return [f"{i}.{part}" for i in range(shape.n_layer) for part in ("key", "value")]


class Stepped(nn.Module):
    """The model as the graph has it: keys and values come and go with every call."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor,
        past: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        dtype = self.model.embed.weight.dtype
        mask = _visible(input_ids.shape[1], attention_mask)
        # the lowest finite number: a row that sees nothing must stay a number
        bias = torch.where(mask, 0.0, torch.finfo(dtype).min).to(dtype)
        kept = GrowingPast(past, position_ids, bias)
        hidden = self.model.hidden(input_ids, kept)
        return (self.model.logits(hidden), *kept.grown)


class GrowingPast:
    """See `kv_cache.Past`. `grown`: all keys and values, layer by layer."""

    def __init__(self, past: Sequence[Tensor], positions: Tensor, mask: Tensor) -> None:
        self._past = past
        self.positions = positions
        self.mask = mask
        self.grown: list[Tensor] = []

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self._past[2 * layer : 2 * layer + 2]
        k, v = torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2)
        self.grown += [k, v]
        return k, v


def _visible(tokens: int, attention_mask: Tensor) -> Tensor:
    """(B, 1, T, P + T): keys up to each new token that are not padding."""
    total = attention_mask.shape[1]
    keys = torch.arange(total)
    own = torch.arange(tokens) + (total - tokens)
    return (keys <= own[:, None]) & (attention_mask[:, None, None, :] > 0)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's own warnings, which no user can act on, stay unsaid."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

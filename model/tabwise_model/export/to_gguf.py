"""A Tabwise checkpoint of family llama as one GGUF file, llama.cpp's format.

llama.cpp's architecture `llama` rotates neighbouring pairs (2i, 2i + 1) where we rotate
halves (i, i + D/2): the rows of the query and key matrices are reordered within each
head to suit. The head is tied: llama.cpp takes `token_embd` where `output` is absent.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from gguf import (
    GGMLQuantizationType,
    GGUFWriter,
    LlamaFileType,
    TokenType,
)
from gguf.quants import quantize

from tabwise_model.checkpoint import Checkpoint, Tensors
from tabwise_model.config import ModelConfig
from tabwise_model.export.source import ExportError, check_float16, float_tensors
from tabwise_model.export.vocabulary import merge_symbols, piece_symbols
from tabwise_model.tokenizer import (
    GPT2_PATTERN,
    SENTINELS,
    SPLIT_PATTERN,
    Tokenizer,
)

Q8_0_BLOCK = 32

GGUF_DTYPES: Mapping[str, tuple[GGMLQuantizationType, LlamaFileType]] = (
    MappingProxyType(
        {
            "fp32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
            "fp16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
            "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
        }
    )
)

# Our split pattern: llama.cpp's name of it.
_PRE_TOKENIZERS: Mapping[str, str] = MappingProxyType(
    {SPLIT_PATTERN: "qwen2", GPT2_PATTERN: "gpt-2"}
)

_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "attention_norm": "attn_norm",
        "mlp_norm": "ffn_norm",
        "attention.q": "attn_q",
        "attention.k": "attn_k",
        "attention.v": "attn_v",
        "attention.out": "attn_output",
        "mlp.gate": "ffn_gate",
        "mlp.up": "ffn_up",
        "mlp.down": "ffn_down",
    }
)


def write_gguf(file: Path, checkpoint: Checkpoint, dtype: str) -> None:
    """Replace `file` with the checkpoint in llama.cpp's form, atomically.

    dtype: of the matrices, one of GGUF_DTYPES; norms stay float32. Raises
    CheckpointError before anything is written.
    """
    _check(checkpoint, dtype)
    tensors = float_tensors(checkpoint)
    if dtype != "fp32":  # a block of Q8_0 has its scale in fp16
        check_float16(tensors)
    tensors = gguf_tensors(checkpoint.config, tensors)
    merges = merge_symbols(checkpoint.tokenizer)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.close(handle)
    fresh = Path(name)
    try:
        writer = GGUFWriter(fresh, "llama")
        _add_shape(writer, checkpoint, GGUF_DTYPES[dtype][1])
        _add_vocabulary(writer, checkpoint, merges)
        _add_tensors(writer, tensors, GGUF_DTYPES[dtype][0])
        _write(writer)
        fresh.chmod(0o644)
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)


def gguf_tensors(config: ModelConfig, tensors: Tensors) -> Tensors:
    """Our float32 tensors under llama.cpp's names, queries and keys reordered."""
    found = {
        "token_embd.weight": tensors["embed.weight"],
        "output_norm.weight": tensors["norm.weight"],
    }
    heads = {"attention.q": config.n_head, "attention.k": config.n_kv_head}
    for i in range(config.n_layer):
        for ours, theirs in _NAMES.items():
            weight = tensors[f"layers.{i}.{ours}.weight"]
            if ours in heads:
                weight = interleave_halves(weight, heads[ours])
            found[f"blk.{i}.{theirs}.weight"] = weight
    return found


def interleave_halves(
    weight: np.ndarray[Any, Any], n_head: int
) -> np.ndarray[Any, Any]:
    """Rows (i, i + D/2) of each head become neighbours (2i, 2i + 1)."""
    rows, columns = weight.shape
    split = weight.reshape(n_head, 2, rows // n_head // 2, columns)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows, columns))


def _check(checkpoint: Checkpoint, dtype: str) -> None:
    config = checkpoint.config
    if dtype not in GGUF_DTYPES:
        raise ExportError(
            f"dtype must be one of {', '.join(GGUF_DTYPES)}, got {dtype!r}"
        )
    if config.family != "llama":
        raise ExportError(
            f"family {config.family} is not written as GGUF, only llama is; export it "
            "as hf"
        )
    if checkpoint.tokenizer.pattern not in _PRE_TOKENIZERS:
        raise ExportError(
            "llama.cpp does not know this tokenizer's split pattern: "
            f"{checkpoint.tokenizer.pattern!r}"
        )
    for name in ("n_embd", "mlp_hidden"):
        if dtype == "q8_0" and getattr(config, name) % Q8_0_BLOCK:
            raise ExportError(
                f"q8_0 needs {name} to divide by {Q8_0_BLOCK}, got "
                f"{getattr(config, name)}; use fp16"
            )


def _add_shape(
    writer: GGUFWriter, checkpoint: Checkpoint, file_type: LlamaFileType
) -> None:
    config = checkpoint.config
    writer.add_name(f"tabwise {checkpoint.name}")
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.block_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.mlp_hidden)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_kv_head)
    if config.head_dim is not None:
        writer.add_key_length(config.head_size)
        writer.add_value_length(config.head_size)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_rope_freq_base(config.rope_theta)


def _add_vocabulary(
    writer: GGUFWriter, checkpoint: Checkpoint, merges: list[tuple[str, str]]
) -> None:
    """Pieces, then our sentinels, then the rows that no id uses."""
    tokenizer = checkpoint.tokenizer
    pieces = piece_symbols(tokenizer)
    spare = range(tokenizer.vocab_size, checkpoint.config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_PRE_TOKENIZERS[tokenizer.pattern])
    writer.add_token_list([*pieces, *SENTINELS, *(f"[PAD{i}]" for i in spare)])
    writer.add_token_types(
        [TokenType.NORMAL] * len(pieces)
        + [TokenType.CONTROL] * len(SENTINELS)
        + [TokenType.UNUSED] * len(spare)
    )
    writer.add_token_merges([f"{a} {b}" for a, b in merges])
    _add_sentinels(writer, tokenizer)


def _add_sentinels(writer: GGUFWriter, tokenizer: Tokenizer) -> None:
    writer.add_add_bos_token(False)
    writer.add_bos_token_id(tokenizer.end)
    writer.add_eos_token_id(tokenizer.end)
    writer.add_eot_token_id(tokenizer.end)
    writer.add_pad_token_id(tokenizer.end)
    for name, number in (
        ("pre", tokenizer.fim_prefix),
        ("suf", tokenizer.fim_suffix),
        ("mid", tokenizer.fim_middle),
        ("rep", tokenizer.repo_name),
        ("sep", tokenizer.file_sep),
    ):
        writer.add_uint32(f"tokenizer.ggml.fim_{name}_token_id", number)


def _add_tensors(
    writer: GGUFWriter, tensors: Tensors, kind: GGMLQuantizationType
) -> None:
    for name, array in tensors.items():
        of_this = GGMLQuantizationType.F32 if array.ndim == 1 else kind
        writer.add_tensor(name, quantize(array, of_this), raw_dtype=of_this)


def _write(writer: GGUFWriter) -> None:
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()

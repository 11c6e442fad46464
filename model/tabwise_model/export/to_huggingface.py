"""A Tabwise checkpoint as a Hugging Face folder: LlamaForCausalLM or GPT2LMHeadModel.

Writes model.safetensors, config.json, generation_config.json, tokenizer.json and
tokenizer_config.json. The inverse of `from_huggingface`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tabwise_model.checkpoint import Checkpoint, Tensors
from tabwise_model.config import ModelConfig
from tabwise_model.export.from_huggingface import LLAMA_NAMES
from tabwise_model.export.source import ExportError, check_float16, float_tensors
from tabwise_model.export.vocabulary import merge_symbols, piece_symbols
from tabwise_model.folders import fresh_folder
from tabwise_model.tokenizer import (
    END,
    FILE_SEP,
    FIM_MIDDLE,
    FIM_PREFIX,
    FIM_SUFFIX,
    REPO_NAME,
    SENTINELS,
    Tokenizer,
)

HF_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
)


def write_huggingface(folder: Path, checkpoint: Checkpoint, dtype: str) -> None:
    """Replace `folder` with the checkpoint in `transformers`' form, atomically.

    dtype: of every tensor, one of HF_DTYPES. Raises CheckpointError before anything
    is written.
    """
    if dtype not in HF_DTYPES:
        raise ExportError(f"dtype must be one of {', '.join(HF_DTYPES)}, got {dtype!r}")
    tensors = float_tensors(checkpoint)
    check_heads(checkpoint.config)
    if dtype == "fp16":
        check_float16(tensors)
    renamed = huggingface_tensors(checkpoint.config, tensors)
    weights = {k: _as_torch(v, HF_DTYPES[dtype]) for k, v in renamed.items()}
    files = documents(checkpoint, dtype)
    with fresh_folder(folder) as fresh:
        file = fresh / "model.safetensors"
        save_file(weights, file, metadata={"format": "pt"})
        file.chmod(0o644)  # it comes readable by its owner alone
        write_documents(fresh, files)


def check_heads(config: ModelConfig) -> None:
    """Raise ExportError for a number of heads that `transformers` does not take."""
    if config.n_embd % config.n_head:
        raise ExportError(
            f"transformers wants n_embd {config.n_embd} to divide by n_head "
            f"{config.n_head}; such a model can be written as gguf"
        )


def huggingface_tensors(config: ModelConfig, tensors: Tensors) -> Tensors:
    """Our float32 tensors under the names, and in the shapes, of `transformers`."""
    if config.family == "llama":
        return _llama_tensors(config, tensors)
    return _gpt2_tensors(config, tensors)


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """tokenizer.json: byte-level BPE with our ids and split pattern."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    split = {
        "type": "Split",
        "pattern": {"Regex": tokenizer.pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    steps = [split, byte_level | {"use_regex": False}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(tokenizer),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {s: rank for rank, s in enumerate(piece_symbols(tokenizer))},
            "merges": [list(pair) for pair in merge_symbols(tokenizer)],
        },
    }


def _added_tokens(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return [
        {"id": tokenizer.end + i, "content": name, **flags}
        for i, name in enumerate(SENTINELS)
    ]


def _tokenizer_config(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": checkpoint.config.block_size,
        "clean_up_tokenization_spaces": False,
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "extra_special_tokens": {
            "fim_prefix_token": FIM_PREFIX,
            "fim_suffix_token": FIM_SUFFIX,
            "fim_middle_token": FIM_MIDDLE,
            "file_sep_token": FILE_SEP,
            "repo_name_token": REPO_NAME,
        },
    }


def documents(checkpoint: Checkpoint, dtype: str) -> dict[str, dict[str, Any]]:
    """Every JSON file of a folder by name: shape, tokenizer, how to generate."""
    config, end = checkpoint.config, checkpoint.tokenizer.end
    shape = _llama_config(config) if config.family == "llama" else _gpt2_config(config)
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    common = {
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": True,
        "torch_dtype": str(HF_DTYPES[dtype]).removeprefix("torch."),
    }
    return {
        "config.json": {**shape, **common, **ends},
        "generation_config.json": {**ends, "do_sample": False},
        "tokenizer.json": tokenizer_json(checkpoint.tokenizer),
        "tokenizer_config.json": _tokenizer_config(checkpoint),
    }


def _llama_config(config: ModelConfig) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.n_embd,
        "intermediate_size": config.mlp_hidden,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_size,
        "max_position_embeddings": config.block_size,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }


def _gpt2_config(config: ModelConfig) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": config.n_embd,
        "n_inner": config.mlp_hidden,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_positions": config.block_size,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": "gelu_new",
    }


def _llama_tensors(config: ModelConfig, tensors: Tensors) -> Tensors:
    found = {
        "model.embed_tokens.weight": tensors["embed.weight"],
        "model.norm.weight": tensors["norm.weight"],
    }
    for i in range(config.n_layer):
        for ours, theirs in LLAMA_NAMES.items():
            weight = tensors[f"layers.{i}.{ours}.weight"]
            found[f"model.layers.{i}.{theirs}.weight"] = weight
    return found


def _gpt2_tensors(config: ModelConfig, tensors: Tensors) -> Tensors:
    """GPT-2 keeps its matrices (in, out), and queries, keys and values as one."""
    found = {
        "transformer.wte.weight": tensors["embed.weight"],
        "transformer.wpe.weight": tensors["positions.weight"],
        "transformer.ln_f.weight": tensors["norm.weight"],
        "transformer.ln_f.bias": tensors["norm.bias"],
    }
    for i in range(config.n_layer):
        for part in ("weight", "bias"):
            here, there = f"layers.{i}.", f"transformer.h.{i}."
            qkv = [tensors[f"{here}attention.{name}.{part}"] for name in "qkv"]
            found[f"{there}attn.c_attn.{part}"] = np.concatenate(qkv).T
            found[f"{there}ln_1.{part}"] = tensors[f"{here}attention_norm.{part}"]
            found[f"{there}ln_2.{part}"] = tensors[f"{here}mlp_norm.{part}"]
            for ours, theirs in (
                ("attention.out", "attn.c_proj"),
                ("mlp.up", "mlp.c_fc"),
                ("mlp.down", "mlp.c_proj"),
            ):
                found[f"{there}{theirs}.{part}"] = tensors[f"{here}{ours}.{part}"].T
    return found


def _as_torch(array: np.ndarray[Any, Any], dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)


def write_documents(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what `documents` gave."""
    for name, document in files.items():
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")

"""A Hugging Face folder, Llama- or GPT-2-shaped, as a Tabwise checkpoint.

Reads config.json, safetensors (one file or shards) and tokenizer.json; pickled weights
are refused. Our sentinels take ids after the folder's own, with fresh embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from tabwise_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    Tensors,
    check_tensors,
)
from tabwise_model.config import ConfigError, ModelConfig
from tabwise_model.export.vocabulary import byte_symbols
from tabwise_model.tokenizer import Tokenizer, TokenizerError

GPT2_PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
VOCAB_MULTIPLE = 64  # keeps the head's matrix product on its fast path

LLAMA_NAMES: Mapping[str, str] = {
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}


def read_huggingface(folder: Path) -> Checkpoint:
    """The folder's model in float32. Raises CheckpointError naming what is wrong."""
    config = _read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in ("llama", "gpt2"):
        raise CheckpointError(
            f"{folder}: model_type must be llama or gpt2, got {kind!r}"
        )
    tokenizer = read_tokenizer(folder)
    source = _read_tensors(folder)
    try:
        shape = (_llama_config if kind == "llama" else _gpt2_config)(config, tokenizer)
    except (KeyError, ConfigError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    try:
        tensors = (_llama_tensors if kind == "llama" else _gpt2_tensors)(shape, source)
    except KeyError as error:
        raise CheckpointError(f"{folder} lacks the tensor {error.args[0]}") from error
    tensors["embed.weight"] = _fit_rows(tensors["embed.weight"], shape.vocab_size)
    check_tensors(shape, tensors, 32)
    return Checkpoint(
        config=shape,
        tokenizer=tokenizer,
        tensors=tensors,
        name=folder.name,
        provenance={"imported_from": folder.name, "model_type": kind},
    )


def read_tokenizer(folder: Path) -> Tokenizer:
    """A byte-level BPE tokenizer.json as ours, ids unchanged.

    Raises CheckpointError if its ids are not in the order of its merges.
    """
    data = _read_json(folder / "tokenizer.json")
    model = data.get("model", {})
    if model.get("type") != "BPE":
        raise CheckpointError(f"{folder / 'tokenizer.json'}: not a BPE vocabulary")
    added = {token["content"] for token in data.get("added_tokens", [])}
    byte_of = {symbol: byte for byte, symbol in byte_symbols().items()}
    ranks = {}
    for piece, rank in model["vocab"].items():
        if piece in added:
            continue
        if not set(piece) <= byte_of.keys():
            raise CheckpointError(f"{folder}: {piece!r} is no byte-level piece")
        ranks[bytes(byte_of[symbol] for symbol in piece)] = rank
    try:
        return Tokenizer(ranks, _split_pattern(data, folder))
    except TokenizerError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def _split_pattern(data: Mapping[str, Any], folder: Path) -> str:
    steps = data.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    for step in steps:
        if step.get("type") == "Split" and "Regex" in step.get("pattern", {}):
            return str(step["pattern"]["Regex"])
    if any(s.get("type") == "ByteLevel" and s.get("use_regex", True) for s in steps):
        return GPT2_PATTERN
    raise CheckpointError(
        f"{folder}: an unknown pre_tokenizer; need ByteLevel or Split"
    )


def _llama_config(config: Mapping[str, Any], tokenizer: Tokenizer) -> ModelConfig:
    if not config.get("tie_word_embeddings", False):
        raise ConfigError(
            "tie_word_embeddings must be true; an untied head is not read"
        )
    if config.get("rope_scaling"):
        raise ConfigError("rope_scaling is not supported")
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise ConfigError("biases are not supported in family llama")
    rope = config.get("rope_parameters") or config
    own_head = config.get("head_dim")
    if own_head and own_head * config["num_attention_heads"] == config["hidden_size"]:
        own_head = None
    return ModelConfig(
        family="llama",
        vocab_size=_padded(max(config["vocab_size"], tokenizer.vocab_size)),
        block_size=config["max_position_embeddings"],
        n_layer=config["num_hidden_layers"],
        n_head=config["num_attention_heads"],
        n_kv_head=config.get("num_key_value_heads", config["num_attention_heads"]),
        n_embd=config["hidden_size"],
        mlp_hidden=config["intermediate_size"],
        rope_theta=rope.get("rope_theta", 10_000.0),
        norm_eps=config["rms_norm_eps"],
        head_dim=own_head,
    )


def _gpt2_config(config: Mapping[str, Any], tokenizer: Tokenizer) -> ModelConfig:
    if config.get("activation_function", "gelu_new") != "gelu_new":
        raise ConfigError("activation_function must be gelu_new (GELU, tanh form)")
    return ModelConfig(
        family="gpt2",
        vocab_size=_padded(max(config["vocab_size"], tokenizer.vocab_size)),
        block_size=config["n_positions"],
        n_layer=config["n_layer"],
        n_head=config["n_head"],
        n_kv_head=config["n_head"],
        n_embd=config["n_embd"],
        mlp_hidden=config.get("n_inner") or 4 * config["n_embd"],
        norm_eps=config["layer_norm_epsilon"],
    )


def _llama_tensors(shape: ModelConfig, source: Tensors) -> Tensors:
    found = {
        "embed.weight": source["model.embed_tokens.weight"],
        "norm.weight": source["model.norm.weight"],
    }
    for i in range(shape.n_layer):
        for ours, theirs in LLAMA_NAMES.items():
            weight = source[f"model.layers.{i}.{theirs}.weight"]
            found[f"layers.{i}.{ours}.weight"] = weight
    return found


def _gpt2_tensors(shape: ModelConfig, source: Tensors) -> Tensors:
    """GPT-2 keeps its matrices (in, out), and queries, keys and values as one."""
    names = {name.removeprefix("transformer."): array for name, array in source.items()}
    found = {
        "embed.weight": names["wte.weight"],
        "positions.weight": names["wpe.weight"],
        "norm.weight": names["ln_f.weight"],
        "norm.bias": names["ln_f.bias"],
    }
    for i in range(shape.n_layer):
        for part in ("weight", "bias"):
            here, there = f"layers.{i}.", f"h.{i}."
            qkv = np.split(names[f"{there}attn.c_attn.{part}"], 3, axis=-1)
            for name, array in zip("qkv", qkv, strict=True):
                found[f"{here}attention.{name}.{part}"] = array.T.copy()
            found[f"{here}attention_norm.{part}"] = names[f"{there}ln_1.{part}"]
            found[f"{here}mlp_norm.{part}"] = names[f"{there}ln_2.{part}"]
            for ours, theirs in (
                ("attention.out", "attn.c_proj"),
                ("mlp.up", "mlp.c_fc"),
                ("mlp.down", "mlp.c_proj"),
            ):
                found[f"{here}{ours}.{part}"] = names[
                    f"{there}{theirs}.{part}"
                ].T.copy()
    return found


def _fit_rows(embed: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    """`embed` with fresh rows at its end: the mean of all, which favours no token."""
    missing = rows - len(embed)
    mean = embed.mean(axis=0, keepdims=True)
    return np.concatenate([embed, np.repeat(mean, missing, axis=0)])


def _padded(count: int) -> int:
    return -(-count // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


def _read_tensors(folder: Path) -> Tensors:
    """All tensors as float32, from model.safetensors or its shards."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = sorted(set(_read_json(index)["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    found: Tensors = {}
    for name in files:
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name} is missing; pickled weights are not read"
            )
        try:
            loaded = load_file(folder / name)
        except Exception as error:
            raise CheckpointError(f"{folder / name}: {error}") from error
        found.update({k: v.to(torch.float32).numpy() for k, v in loaded.items()})
    return found


def _read_json(file: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    return data

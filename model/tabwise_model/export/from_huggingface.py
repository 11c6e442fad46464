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

from tabwise_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    Tensors,
    check_tensors,
    expected_shapes,
)
from tabwise_model.config import ConfigError, ModelConfig
from tabwise_model.export.huggingface_folder import SourceTensors, read_json
from tabwise_model.export.vocabulary import byte_symbols
from tabwise_model.quantize import check_finite
from tabwise_model.tokenizer import GPT2_PATTERN, Tokenizer, TokenizerError

KEEPS_MATCHES = (("Isolated", False), ("Removed", True))  # a Split's behavior, invert
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
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in ("llama", "gpt2"):
        raise CheckpointError(
            f"{folder}: model_type must be llama or gpt2, got {kind!r}"
        )
    tokenizer = read_tokenizer(folder)
    try:
        _check_config(config, kind)
        shape = (_llama_config if kind == "llama" else _gpt2_config)(config, tokenizer)
        rows = int(config["vocab_size"])
    except KeyError as error:
        raise CheckpointError(f"{folder / 'config.json'} lacks {error}") from error
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    if tokenizer.end > rows:
        raise CheckpointError(
            f"{folder}: tokenizer.json has {tokenizer.end} pieces, the model only "
            f"{rows} embeddings; they belong to different models"
        )
    source = SourceTensors(folder)
    tensors = (_llama_tensors if kind == "llama" else _gpt2_tensors)(
        shape, source, rows
    )
    source.check_all_taken()
    tensors["embed.weight"] = _fit_rows(tensors["embed.weight"], shape.vocab_size)
    check_tensors(shape, tensors, 32)
    found = Checkpoint(
        config=shape,
        tokenizer=tokenizer,
        tensors=tensors,
        name=folder.name,
        provenance={"imported_from": folder.name, "model_type": kind},
    )
    check_finite(found)
    return found


def read_tokenizer(folder: Path) -> Tokenizer:
    """A byte-level BPE tokenizer.json as ours, ids unchanged.

    Raises CheckpointError if its ids are not in the order of its merges.
    """
    data = read_json(folder / "tokenizer.json")
    model = data.get("model", {})
    if model.get("type") != "BPE":
        raise CheckpointError(f"{folder / 'tokenizer.json'}: not a BPE vocabulary")
    added = {token["content"] for token in data.get("added_tokens", [])}
    byte_of = {symbol: byte for byte, symbol in byte_symbols().items()}
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not vocab:
        raise CheckpointError(f"{folder / 'tokenizer.json'} has no vocabulary")
    ranks = {}
    for piece, rank in vocab.items():
        if piece in added:
            continue
        if not set(piece) <= byte_of.keys():
            raise CheckpointError(f"{folder}: {piece!r} is no byte-level piece")
        ranks[bytes(byte_of[symbol] for symbol in piece)] = rank
    _check_normalizer(data.get("normalizer"), folder)
    try:
        return Tokenizer(ranks, _split_pattern(data, folder))
    except TokenizerError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def _check_normalizer(normalizer: Mapping[str, Any] | None, folder: Path) -> None:
    """Text is tokenised as it stands, which NFC leaves of nearly all code. Raises
    CheckpointError for a normalizer that changes more."""
    kind = None if normalizer is None else normalizer.get("type")
    if kind not in (None, "NFC"):
        raise CheckpointError(
            f"{folder / 'tokenizer.json'}: normalizer must be null or NFC, got {kind}"
        )


def _split_pattern(data: Mapping[str, Any], folder: Path) -> str:
    """The one pattern that cuts text. Raises CheckpointError where another step does,
    or none."""
    steps = data.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    if any(step.get("add_prefix_space") for step in steps):
        raise CheckpointError(
            f"{folder / 'tokenizer.json'}: add_prefix_space must be false, for a "
            "prompt begins anywhere in a file"
        )
    cutting = [s for s in steps if s.get("type") != "ByteLevel" or _uses_regex(s)]
    pattern = _pattern_of(cutting[0]) if len(cutting) == 1 else None
    if pattern is None:
        names = ", ".join(str(step.get("type")) for step in steps)
        raise CheckpointError(
            f"{folder / 'tokenizer.json'}: pre_tokenizer must be ByteLevel, or one "
            f"Split that keeps what its Regex finds, got {names}"
        )
    return pattern


def _pattern_of(step: Mapping[str, Any]) -> str | None:
    """The pattern whose matches are its pieces; None for a step that does another
    thing."""
    if step.get("type") == "ByteLevel":
        return GPT2_PATTERN
    how = step.get("behavior", "Isolated"), step.get("invert", False)
    if step.get("type") != "Split" or how not in KEEPS_MATCHES:
        return None
    regex = step.get("pattern", {}).get("Regex")
    return None if regex is None else str(regex)


def _uses_regex(byte_level: Mapping[str, Any]) -> bool:
    return bool(byte_level.get("use_regex", True))


# What our model does not do: the key, and the values that ask nothing of the kind.
REFUSED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "llama": {
        "tie_word_embeddings": (True,),
        "hidden_act": ("silu", None),
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        "rope_scaling": (None, {}),
        "quantization_config": (None,),
    },
    "gpt2": {
        "tie_word_embeddings": (True, None),
        "activation_function": ("gelu_new", None),
        "scale_attn_weights": (True, None),
        "scale_attn_by_inverse_layer_idx": (False, None),
        "add_cross_attention": (False, None),
        "quantization_config": (None,),
    },
}


def _check_config(config: Mapping[str, Any], kind: str) -> None:
    """Raise ConfigError naming an option that would need another architecture."""
    for name, allowed in REFUSED[kind].items():
        value = config.get(name)
        if value not in allowed:
            raise ConfigError(
                f"{name} must be {json.dumps(allowed[0])}, got {json.dumps(value)}"
            )
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise ConfigError(f"rope_type must be default, got {rope['rope_type']!r}")


def _llama_config(config: Mapping[str, Any], tokenizer: Tokenizer) -> ModelConfig:
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


def _llama_tensors(shape: ModelConfig, source: SourceTensors, rows: int) -> Tensors:
    """rows: of the source's embedding."""
    c, wanted = shape.n_embd, expected_shapes(shape)
    found = {
        "embed.weight": source.take("model.embed_tokens.weight", (rows, c)),
        "norm.weight": source.take("model.norm.weight", (c,)),
    }
    for i in range(shape.n_layer):
        for ours, theirs in LLAMA_NAMES.items():
            name = f"layers.{i}.{ours}.weight"
            found[name] = source.take(f"model.layers.{i}.{theirs}.weight", wanted[name])
    return found


def _gpt2_tensors(shape: ModelConfig, source: SourceTensors, rows: int) -> Tensors:
    """GPT-2 keeps its matrices (in, out), and queries, keys and values as one."""
    c, hidden = shape.n_embd, shape.mlp_hidden
    found = {
        "embed.weight": source.take("wte.weight", (rows, c)),
        "positions.weight": source.take("wpe.weight", (shape.block_size, c)),
        "norm.weight": source.take("ln_f.weight", (c,)),
        "norm.bias": source.take("ln_f.bias", (c,)),
    }
    for i in range(shape.n_layer):
        here, there = f"layers.{i}.", f"h.{i}."
        for name, theirs in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
            for part in ("weight", "bias"):
                found[f"{here}{name}.{part}"] = source.take(
                    f"{there}{theirs}.{part}", (c,)
                )
        for names, theirs, size in (
            (("attention.q", "attention.k", "attention.v"), "attn.c_attn", (c, 3 * c)),
            (("attention.out",), "attn.c_proj", (c, c)),
            (("mlp.up",), "mlp.c_fc", (c, hidden)),
            (("mlp.down",), "mlp.c_proj", (hidden, c)),
        ):
            weight = source.take(f"{there}{theirs}.weight", size)
            bias = source.take(f"{there}{theirs}.bias", size[1:])
            weights = np.split(weight, len(names), axis=1)
            biases = np.split(bias, len(names))
            for name, w, b in zip(names, weights, biases, strict=True):
                found[f"{here}{name}.weight"] = w.T.copy()
                found[f"{here}{name}.bias"] = b.copy()
    return found


def _fit_rows(embed: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    """`embed` with fresh rows at its end: the mean of all, which favours no token."""
    missing = rows - len(embed)
    mean = embed.mean(axis=0, keepdims=True)
    return np.concatenate([embed, np.repeat(mean, missing, axis=0)])


def _padded(count: int) -> int:
    return -(-count // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as HFTokenizer

from support.huggingface import SOURCE, make_folder
from tabwise_model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from tabwise_model.export.from_huggingface import read_huggingface
from tabwise_model.gpt import GPT
from tabwise_model.tokenizer import GPT2_PATTERN


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_logits_and_ids_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    theirs = make_folder(tmp_path / "hf", kind)
    save_checkpoint(tmp_path / "ours", read_huggingface(tmp_path / "hf"))
    found = load_checkpoint(tmp_path / "ours")
    model = GPT(found.config).eval()
    model.load_tensors(found.tensors)

    text = (SOURCE / "decoder.py").read_text()
    reference = HFTokenizer.from_file(str(tmp_path / "hf" / "tokenizer.json"))
    ids = found.tokenizer.encode(text)
    assert ids == reference.encode(text).ids
    assert found.tokenizer.end == reference.token_to_id("<|endoftext|>")

    tokens = torch.tensor([ids[:32]])
    with torch.no_grad():
        ours = model.logits(model.hidden(tokens))[..., :501]
        torch.testing.assert_close(ours, theirs(tokens).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("llama", {"model_type": "mamba"}, "llama or gpt2, got 'mamba'"),
        ("llama", {"tie_word_embeddings": False}, "embeddings must be true, got false"),
        ("llama", {"num_hidden_layers": 3}, "lacks the tensor model.layers.2"),
        ("llama", {"num_hidden_layers": 1}, "has an unknown tensor model.layers.1"),
        ("llama", {"hidden_act": "gelu"}, 'hidden_act must be "silu", got "gelu"'),
        ("llama", {"attention_bias": True}, "attention_bias must be false, got true"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "rope_scaling must be null"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
            "rope_type must be default, got 'yarn'",
        ),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config must be"),
        ("llama", {"hidden_size": "wide"}, r"config\.json: "),
        ("llama", {"intermediate_size": 41}, r"gate_proj\.weight must be \(41, 24\)"),
        ("llama", {"vocab_size": 70_000}, r"vocab_size must fit uint16 \(65536\)"),
        ("llama", {"vocab_size": 480}, "has 500 pieces, the model only 480"),
        ("llama", {"vocab_size": 502}, r"embed_tokens\.weight must be \(502, 24\)"),
        ("gpt2", {"activation_function": "relu"}, 'must be "gelu_new", got "relu"'),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "layer_idx must be false"),
        ("gpt2", {"n_head": 5}, "must divide"),
        ("gpt2", {"n_inner": 30}, r"h\.0\.mlp\.c_fc\.weight must be \(24, 30\)"),
        ("gpt2", {"n_positions": 16}, r"wpe\.weight must be \(16, 24\), got \(32"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, kind: str, change: dict[str, Any], message: str
) -> None:
    make_folder(tmp_path, kind)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=message):
        read_huggingface(tmp_path)


SPLIT = {"type": "Split", "pattern": {"Regex": r"\S+|\s+"}, "behavior": "Isolated"}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
CUTTING = BYTES | {"use_regex": True}


def change_tokenizer(folder: Path, **changes: Any) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(data | changes))


def change_steps(folder: Path, steps: list[dict[str, Any]]) -> None:
    make_folder(folder, "llama")
    sequence = {"type": "Sequence", "pretokenizers": steps}
    change_tokenizer(folder, pre_tokenizer=sequence)


@pytest.mark.parametrize(
    ("steps", "pattern"),
    [
        ([SPLIT, BYTES], r"\S+|\s+"),
        ([SPLIT | {"behavior": "Removed", "invert": True}, BYTES], r"\S+|\s+"),
        ([CUTTING], GPT2_PATTERN),
    ],
)
def test_the_step_that_cuts_becomes_our_pattern(
    tmp_path: Path, steps: list[dict[str, Any]], pattern: str
) -> None:
    change_steps(tmp_path, steps)
    assert read_huggingface(tmp_path).tokenizer.pattern == pattern


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        ([{"type": "Digits", "individual_digits": True}, CUTTING], "Digits, ByteLevel"),
        ([SPLIT, SPLIT, BYTES], "Split, Split, ByteLevel"),
        ([SPLIT, CUTTING], "Split, ByteLevel"),
        ([SPLIT | {"behavior": "Removed"}, BYTES], "Split, ByteLevel"),
        ([SPLIT | {"pattern": {"String": " "}}, BYTES], "Split, ByteLevel"),
        ([{"type": "Metaspace"}], "Metaspace"),
        ([BYTES], "ByteLevel"),
    ],
)
def test_a_step_that_cuts_as_ours_cannot_is_named(
    tmp_path: Path, steps: list[dict[str, Any]], names: str
) -> None:
    change_steps(tmp_path, steps)
    with pytest.raises(CheckpointError, match=f"pre_tokenizer must .* got {names}"):
        read_huggingface(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "must be null or NFC, got Lowercase"),
        ({"pre_tokenizer": CUTTING | {"add_prefix_space": True}}, "must be false"),
    ],
)
def test_what_would_change_a_text_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    make_folder(tmp_path, "llama")
    change_tokenizer(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_huggingface(tmp_path)


def test_normal_form_c_is_taken(tmp_path: Path) -> None:
    make_folder(tmp_path, "llama")
    change_tokenizer(tmp_path, normalizer={"type": "NFC"})
    assert read_huggingface(tmp_path).tokenizer.vocab_size > 256


def change_tensors(folder: Path, **changes: Any) -> None:
    """Replace tensors, or leave them out where None is given; dots are `__`."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name, array in changes.items():
        tensors.pop(name.replace("__", "."), None)
        if array is not None:
            tensors[name.replace("__", ".")] = array
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            "llama",
            {"model__layers__1__mlp__up_proj__weight": None},
            r"lacks the tensor model\.layers\.1\.mlp\.up_proj\.weight",
        ),
        (
            "llama",
            {"model__layers__0__self_attn__k_proj__weight": torch.zeros(12, 23)},
            r"k_proj\.weight must be \(12, 24\), got \(12, 23\)",
        ),
        (
            "llama",
            {"model__layers__0__self_attn__q_norm__weight": torch.zeros(6)},
            r"unknown tensor model\.layers\.0\.self_attn\.q_norm\.weight",
        ),
        (
            "llama",
            {"model__norm__weight": torch.full((24,), float("nan"))},
            r"norm\.weight has values that are not finite",
        ),
        (
            "gpt2",
            {"transformer__h__0__attn__c_attn__weight": torch.zeros(24, 71)},
            r"h\.0\.attn\.c_attn\.weight must be \(24, 72\), got \(24, 71\)",
        ),
        (
            "gpt2",
            {"transformer__h__1__mlp__c_proj__bias": None},
            r"lacks the tensor h\.1\.mlp\.c_proj\.bias",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_as_it_is_there(
    tmp_path: Path, kind: str, changes: dict[str, Any], message: str
) -> None:
    make_folder(tmp_path, kind)
    change_tensors(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_huggingface(tmp_path)


def test_what_nobody_learnt_may_lie_beside_the_weights(tmp_path: Path) -> None:
    make_folder(tmp_path, "gpt2")
    change_tensors(tmp_path, transformer__h__0__attn__bias=torch.ones(1, 1, 32, 32))
    assert read_huggingface(tmp_path).config.n_layer == 2


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_truncated_file_is_named(tmp_path: Path, name: str) -> None:
    make_folder(tmp_path, "llama")
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        read_huggingface(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "[]", r"config\.json must hold an object, got list"),
        ("config.json", '{"model_type": "llama"}', r"must be true, got null"),
        ("tokenizer.json", '{"model": {"type": "BPE"}}', "has no vocabulary"),
        ("tokenizer.json", '{"model": {"type": "Unigram"}}', "not a BPE vocabulary"),
    ],
)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    make_folder(tmp_path, "llama")
    (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_huggingface(tmp_path)


def test_a_config_that_lacks_a_size_names_it(tmp_path: Path) -> None:
    make_folder(tmp_path, "llama")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["intermediate_size"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="lacks 'intermediate_size'"):
        read_huggingface(tmp_path)


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path, "llama")
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"00002\.safetensors is missing"):
        read_huggingface(tmp_path)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    make_folder(tmp_path, "llama")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled weights are not read"):
        read_huggingface(tmp_path)


def test_fresh_sentinels_have_embeddings_that_favour_no_token(tmp_path: Path) -> None:
    make_folder(tmp_path, "gpt2")
    found = read_huggingface(tmp_path)
    fresh = found.tensors["embed.weight"][501:]
    assert len(fresh) == 512 - 501
    np.testing.assert_allclose(fresh[0], fresh[-1])

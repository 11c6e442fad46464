import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as HFTokenizer

from support.huggingface import SOURCE, make_folder
from tabwise_model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from tabwise_model.export.from_huggingface import read_huggingface
from tabwise_model.gpt import GPT


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
        ("llama", {"tie_word_embeddings": False}, "untied head"),
        ("llama", {"num_hidden_layers": 3}, "lacks the tensor model.layers.2"),
        ("gpt2", {"activation_function": "relu"}, "gelu_new"),
        ("gpt2", {"n_head": 5}, "must divide"),
        ("gpt2", {"n_inner": 30}, r"mlp\.up\.weight must be"),
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


def test_truncated_weights_are_named(tmp_path: Path) -> None:
    make_folder(tmp_path, "llama")
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_huggingface(tmp_path)
    file.unlink()
    with pytest.raises(CheckpointError, match="pickled weights are not read"):
        read_huggingface(tmp_path)


def test_fresh_sentinels_have_embeddings_that_favour_no_token(tmp_path: Path) -> None:
    make_folder(tmp_path, "gpt2")
    found = read_huggingface(tmp_path)
    fresh = found.tensors["embed.weight"][501:]
    assert len(fresh) == 512 - 501
    np.testing.assert_allclose(fresh[0], fresh[-1])

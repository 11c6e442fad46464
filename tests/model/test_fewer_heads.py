"""Heads that do not fill the width, as after pruning: the same model everywhere."""

from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

from support.greedy import greedy_tokens, one_thread, until_end
from support.huggingface import load_model
from support.llama_cpp import LlamaCpp
from support.models import EVEN, LLAMA, checkpoint_of
from support.native import ids, make_runner, need_library, paths
from support.native_reference import NativeReference
from tabwise_model.checkpoint import load_checkpoint, save_checkpoint
from tabwise_model.config import ModelConfig
from tabwise_model.export.from_huggingface import read_huggingface
from tabwise_model.export.source import ExportError
from tabwise_model.export.to_gguf import write_gguf
from tabwise_model.export.to_huggingface import write_huggingface
from tabwise_model.runners.protocol import Chunk
from tabwise_model.runners.torch import TorchRunner
from tabwise_training.errors import TrainingError
from tabwise_training.initialise import initial_model

# Half the heads; and more of them than the width has room for.
FEWER = attrs.evolve(EVEN, n_head=2, n_kv_head=1, head_dim=16)
MORE = attrs.evolve(LLAMA, n_head=8, n_kv_head=4, head_dim=8)
PROMPTS = [list(ids(20, seed)) for seed in range(4)]


def test_a_checkpoint_comes_back_with_its_heads(tmp_path: Path) -> None:
    saved = checkpoint_of(FEWER)
    save_checkpoint(tmp_path / "m", saved)
    assert load_checkpoint(tmp_path / "m").config == FEWER
    assert saved.tensors["layers.0.attention.q.weight"].shape == (32, 64)
    assert saved.tensors["layers.0.attention.out.weight"].shape == (64, 32)


@pytest.mark.parametrize("config", [FEWER, MORE])
def test_the_native_runner_gives_the_references_bits(config: ModelConfig) -> None:
    need_library()
    checkpoint, tokens = checkpoint_of(config), ids(30)
    reference = NativeReference(checkpoint).logits(tokens)
    for path in paths():
        found = make_runner(checkpoint, path=path).extend_all(Chunk(0, 0, tokens))
        np.testing.assert_array_equal(found, reference, err_msg=path)


def test_cached_logits_are_the_uncached_ones() -> None:
    checkpoint, tokens = checkpoint_of(FEWER), ids(30)
    runner = TorchRunner(checkpoint, n_slots=2, slot_tokens=64, device="cpu")
    whole = runner.extend_all(Chunk(0, 0, tokens)).copy()
    runner.extend([Chunk(1, 0, tokens[:11])])
    rest = runner.extend_all(Chunk(1, 11, tokens[11:]))
    np.testing.assert_allclose(rest, whole[11:], atol=1e-4)


@pytest.mark.parametrize("config", [FEWER, MORE])
def test_transformers_and_llama_cpp_give_our_tokens(
    tmp_path: Path, config: ModelConfig
) -> None:
    checkpoint = checkpoint_of(config)
    end = checkpoint.tokenizer.end
    write_huggingface(tmp_path / "hf", checkpoint, "fp32")
    write_gguf(tmp_path / "x.gguf", checkpoint, "fp32")
    with one_thread():
        ours = greedy_tokens(checkpoint, PROMPTS, 12)
        made = load_model(tmp_path / "hf").generate(
            torch.tensor(PROMPTS), max_new_tokens=12
        )
    assert [until_end(row, end) for row in made[:, 20:].tolist()] == ours
    engine = LlamaCpp(tmp_path / "x.gguf")
    assert [engine.greedy_tokens(ids, 12, end) for ids in PROMPTS] == ours
    back = read_huggingface(tmp_path / "hf")
    assert attrs.evolve(back.config, vocab_size=config.vocab_size) == config


def test_heads_that_transformers_does_not_take_are_refused(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(attrs.evolve(MORE, n_head=6, n_kv_head=3))
    with pytest.raises(ExportError, match="n_embd 32 to divide by n_head 6"):
        write_huggingface(tmp_path / "hf", checkpoint, "fp32")
    assert list(tmp_path.iterdir()) == []
    write_gguf(tmp_path / "x.gguf", checkpoint, "fp32")
    ours = greedy_tokens(checkpoint, PROMPTS, 12)
    engine, end = LlamaCpp(tmp_path / "x.gguf"), checkpoint.tokenizer.end
    assert [engine.greedy_tokens(ids, 12, end) for ids in PROMPTS] == ours


def test_training_starts_from_it_and_names_another_head(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(FEWER)
    save_checkpoint(tmp_path / "m", checkpoint)
    made = initial_model(str(tmp_path / "m"), FEWER, checkpoint.tokenizer)
    name = "layers.1.attention.out.weight"
    assert (made.to_tensors()[name] == checkpoint.tensors[name]).all()
    usual = attrs.evolve(FEWER, head_dim=None)
    with pytest.raises(TrainingError, match="head_dim 16 instead of None"):
        initial_model(str(tmp_path / "m"), usual, checkpoint.tokenizer)

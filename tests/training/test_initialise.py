"""Training from a checkpoint, from GPT-2, and what is refused."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import regex
from tiktoken_ext.openai_public import r50k_pat_str  # type: ignore[import-untyped]

from support.huggingface import make_folder
from tabwise_model.checkpoint import load_checkpoint, save_checkpoint
from tabwise_model.export.from_huggingface import read_huggingface
from tabwise_model.tokenizer import GPT2_PATTERN, Tokenizer
from tabwise_server.cli import main
from tabwise_training.config import load_config
from tabwise_training.errors import TrainingError
from tabwise_training.initialise import initial_model, read_source
from tabwise_training.run_state import steps_on_disk

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    make_folder(folder, "gpt2")
    return folder


@pytest.fixture(scope="module")
def prepared_for_gpt2(gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared-gpt2")
    tokenizer = read_huggingface(gpt2).tokenizer
    (folder / "tokenizer.tiktoken").write_text(tokenizer.dumps())
    pattern = {"tokenizer": {"pattern": tokenizer.pattern}}
    (folder / "config.json").write_text(json.dumps(pattern))
    text = Path(__file__).read_text()
    ids = np.array([*tokenizer.encode(text), tokenizer.end] * 20, np.uint16)
    for split in ("train", "val"):
        ids.tofile(folder / f"{split}.bin")
    return folder


@pytest.mark.parametrize("recipe", ["seed.toml", "seed-4gpu.toml"])
def test_the_seeds_recipes_start_on_a_small_gpt2(
    recipe: str, gpt2: Path, prepared_for_gpt2: Path, tmp_path: Path
) -> None:
    """Everything of the recipe but its size and its device."""
    flags = {
        "run.out": tmp_path / "run",
        "run.init_from": gpt2,
        "data.folder": prepared_for_gpt2,
        "run.device": "cpu",
        "run.dtype": "float32",
        "run.compile": "false",
        "run.steps": 2,
        "run.batch_tokens": 64,
        "model.block_size": 16,
        "model.n_layer": 2,
        "model.n_head": 3,
        "model.n_kv_head": 3,
        "model.n_embd": 24,
        "model.mlp_hidden": 96,
    }
    arguments = [part for k, v in flags.items() for part in (f"--{k}", str(v))]
    assert main(["train", "--config", str(CONFIGS / recipe), *arguments]) == 0
    found = load_checkpoint(steps_on_disk(tmp_path / "run")[-1])
    assert found.config.family == "gpt2"
    before = read_huggingface(gpt2).tensors["layers.0.mlp.up.weight"]
    after = found.tensors["layers.0.mlp.up.weight"]
    assert 0 < np.abs(after - before).max() < 0.01


def test_weights_are_those_of_the_folder(gpt2: Path, tmp_path: Path) -> None:
    imported = read_huggingface(gpt2)
    save_checkpoint(tmp_path / "ours", imported)
    for source in (gpt2, tmp_path / "ours"):
        model = initial_model(str(source), imported.config, imported.tokenizer)
        for name, array in model.to_tensors().items():
            np.testing.assert_array_equal(array, imported.tensors[name])


@pytest.mark.parametrize("length", range(1, 5))
def test_gpt2s_pattern_cuts_as_tiktokens_spelling_of_it(length: int) -> None:
    ours, theirs = map(regex.compile, (GPT2_PATTERN, r50k_pat_str))
    for text in map("".join, product("'sSlL1. \t\n\ré", repeat=length)):
        assert ours.findall(text) == theirs.findall(text)


def test_another_shape_or_vocabulary_is_refused(gpt2: Path) -> None:
    from support.tokenizer import TOKENIZER

    imported = read_huggingface(gpt2)
    with pytest.raises(TrainingError, match="another vocabulary"):
        initial_model(str(gpt2), imported.config, TOKENIZER)
    ours = Tokenizer.loads(imported.tokenizer.dumps())
    with pytest.raises(TrainingError, match="or splits text in another way"):
        initial_model(str(gpt2), imported.config, ours)
    seed = load_config(CONFIGS / "seed.toml")
    assert (seed.run.batch_tokens, seed.run.micro_rows) == (32 * 512, 8)
    with pytest.raises(TrainingError, match="is no checkpoint's folder"):
        read_source("nowhere")

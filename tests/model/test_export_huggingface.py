import json
import random
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer as HFTokenizer

from support.greedy import greedy_tokens, library_sources, one_thread, until_end
from support.huggingface import load_model, load_tokenizer
from support.models import random_checkpoint
from tabwise_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    resolve_checkpoint,
)
from tabwise_model.config import Family
from tabwise_model.export.from_huggingface import read_huggingface
from tabwise_model.export.source import ExportError
from tabwise_model.export.to_huggingface import write_huggingface
from tabwise_model.export.vocabulary import recover_merges
from tabwise_model.quantize import dequantize_checkpoint, quantize_checkpoint
from tabwise_model.tokenizer import SENTINELS, Tokenizer

FAMILIES: tuple[Family, ...] = ("llama", "gpt2")
HARD = (
    "",
    " ",
    "\n\n\t \r\n  x",
    "a\r\rb\r\n\r\n",
    "don'T we'LL 'S 'ſ İ ı",
    "0123456789 ٣٤ ½ Ⅷ",
    "naïve é e\u0301 漢字かな한글 \u200d👩‍👩‍👧 \U0001f1e8\U0001f1ed",
    "\x00\x1f\x7f\x85\xa0\u2028\u3000\ufeff\ufffd",
    "x = '" + " ".join(SENTINELS) + "'",
    "----====>>>>!!!\n\n;;;",
    "aaaaaaaaaaaaaaaaaaaaaaa" * 20,
    "                                   pass\n" * 5,
)


def random_prompts(checkpoint: Checkpoint, count: int, length: int) -> list[list[int]]:
    draw = random.Random(0)
    ids = checkpoint.tokenizer.vocab_size
    return [[draw.randrange(ids) for _ in range(length)] for _ in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_of_transformers_are_ours(tmp_path: Path, family: Family) -> None:
    checkpoint = attrs.evolve(random_checkpoint(family), name="tiny")
    checkpoint = attrs.evolve(
        checkpoint, config=attrs.evolve(checkpoint.config, rope_theta=500.0)
    )
    write_huggingface(tmp_path / "hf", checkpoint, "fp32")
    theirs = load_model(tmp_path / "hf")
    prompts = random_prompts(checkpoint, 200, 20)
    with one_thread():
        found = theirs.generate(torch.tensor(prompts), max_new_tokens=16)[:, 20:]
        ours = greedy_tokens(checkpoint, prompts, 16)
    assert len({token for row in ours for token in row}) > 50
    end = checkpoint.tokenizer.end
    assert [until_end(row, end) for row in found.tolist()] == ours


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [8, 32])
def test_an_export_comes_back_as_it_was(
    tmp_path: Path, family: Family, bits: int
) -> None:
    checkpoint = random_checkpoint(family)
    if bits == 8:
        checkpoint = quantize_checkpoint(checkpoint)
    write_huggingface(tmp_path / "hf", checkpoint, "fp32")
    back = read_huggingface(tmp_path / "hf")
    wanted = dequantize_checkpoint(checkpoint)
    padded = len(back.tensors["embed.weight"])
    assert back.config == attrs.evolve(wanted.config, vocab_size=padded)
    assert back.tokenizer.dumps() == wanted.tokenizer.dumps()
    assert back.tokenizer.pattern == wanted.tokenizer.pattern
    for name, array in wanted.tensors.items():
        np.testing.assert_array_equal(back.tensors[name][: len(array)], array, name)


@pytest.fixture(scope="module")
def shipped() -> Tokenizer:
    return load_checkpoint(resolve_checkpoint("default")).tokenizer


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, shipped: Tokenizer) -> Path:
    """A tiny model with the shipped tokenizer, as a folder."""
    tiny = random_checkpoint("llama")
    rows = np.zeros((shipped.vocab_size, tiny.config.n_embd), np.float32)
    checkpoint = attrs.evolve(
        tiny,
        config=attrs.evolve(tiny.config, vocab_size=shipped.vocab_size),
        tokenizer=shipped,
        tensors={**tiny.tensors, "embed.weight": rows},
    )
    folder = tmp_path_factory.mktemp("export") / "hf"
    write_huggingface(folder, checkpoint, "fp32")
    return folder


@pytest.mark.slow
def test_token_ids_are_ours_over_megabytes_of_code(
    exported: Path, shipped: Tokenizer
) -> None:
    theirs = HFTokenizer.from_file(str(exported / "tokenizer.json"))
    theirs.encode_special_tokens = True
    for text in (*HARD, *library_sources(5_000_000)):
        assert theirs.encode(text).ids == shipped.encode(text)


def test_transformers_knows_the_sentinels(exported: Path, shipped: Tokenizer) -> None:
    theirs = load_tokenizer(exported)
    assert theirs.convert_tokens_to_ids(list(SENTINELS)) == sorted(shipped.sentinels)
    assert theirs.eos_token_id == shipped.end
    assert theirs("<|fim_middle|>x", add_special_tokens=False)["input_ids"] == [
        shipped.fim_middle,
        *shipped.encode("x"),
    ]
    ids = shipped.encode("def f(x):\n\treturn 'é'  # ,.\n")
    assert theirs.decode(ids) == "def f(x):\n\treturn 'é'  # ,.\n"
    assert theirs.decode([shipped.end, *ids], skip_special_tokens=True).startswith("d")


@pytest.mark.parametrize(("dtype", "bytes_each"), [("fp16", 2), ("bf16", 2)])
def test_weights_are_written_in_the_asked_dtype(
    tmp_path: Path, dtype: str, bytes_each: int
) -> None:
    checkpoint = random_checkpoint("llama")
    write_huggingface(tmp_path / "hf", checkpoint, dtype)
    count = sum(array.size for array in checkpoint.tensors.values())
    size = (tmp_path / "hf" / "model.safetensors").stat().st_size
    assert bytes_each * count < size < bytes_each * count + 4_000
    back = read_huggingface(tmp_path / "hf").tensors["layers.0.mlp.up.weight"]
    wanted = checkpoint.tensors["layers.0.mlp.up.weight"]
    np.testing.assert_allclose(back, wanted, rtol=2**-8, atol=1e-6)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["torch_dtype"] == {"fp16": "float16", "bf16": "bfloat16"}[dtype]


def broken(checkpoint: Checkpoint, name: str, array: Any) -> Checkpoint:
    return attrs.evolve(checkpoint, tensors={**checkpoint.tensors, name: array})


@pytest.mark.parametrize(
    ("array", "dtype", "message"),
    [
        (np.zeros(31, np.float32), "fp32", r"norm\.weight must be"),
        (np.full(32, np.inf, np.float32), "fp32", r"norm\.weight has values.*finite"),
        (np.full(32, 1e5, np.float32), "fp16", r"norm\.weight has values.*use fp32"),
        (np.ones(32, np.float32), "q8_0", "dtype must be one of fp32"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, array: Any, dtype: str, message: str
) -> None:
    checkpoint = broken(random_checkpoint("llama"), "norm.weight", array)
    with pytest.raises(CheckpointError, match=message):
        write_huggingface(tmp_path / "hf", checkpoint, dtype)
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    tiny = random_checkpoint("llama")
    rows = tiny.config.vocab_size - 1
    checkpoint = attrs.evolve(
        broken(tiny, "embed.weight", tiny.tensors["embed.weight"][:rows]),
        config=attrs.evolve(tiny.config, vocab_size=rows),
    )
    with pytest.raises(ExportError, match="belong to different checkpoints"):
        write_huggingface(tmp_path / "hf", checkpoint, "fp32")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("longer", "pairs"),
    [
        ([b"ab", b"abc"], [(b"a", b"b"), (b"ab", b"c")]),
        ([b"bc", b"abc"], [(b"b", b"c"), (b"a", b"bc")]),
        ([b"aa", b"aaa", b"aaaa"], [(b"a", b"a"), (b"aa", b"a"), (b"aa", b"aa")]),
        ([b"bc", b"ab", b"abc"], [(b"b", b"c"), (b"a", b"b"), (b"a", b"bc")]),
    ],
)
def test_merges_are_recovered_from_ranks(
    longer: list[bytes], pairs: list[tuple[bytes, bytes]]
) -> None:
    pieces = [*(bytes([b]) for b in range(256)), *longer]
    assert [(pieces[a], pieces[b]) for a, b in recover_merges(pieces)] == pairs


def test_a_piece_that_no_merge_completes_is_named() -> None:
    pieces = [*(bytes([b]) for b in range(256)), b"abc"]
    with pytest.raises(ExportError, match=r"token 256 \(b'abc'\)"):
        recover_merges(pieces)


def test_an_export_replaces_an_older_one_whole(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "left-over").write_text("x")
    write_huggingface(tmp_path / "hf", random_checkpoint("llama"), "fp32")
    assert [file.name for file in sorted((tmp_path / "hf").iterdir())] == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["hf"]
    assert "lm_head.weight" not in load_file(tmp_path / "hf" / "model.safetensors")

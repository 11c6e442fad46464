from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize

from support.models import LLAMA, random_checkpoint
from support.tokenizer import TOKENIZER
from tabwise_model.checkpoint import Checkpoint, CheckpointError, Tensors
from tabwise_model.config import ModelConfig
from tabwise_model.export.to_gguf import interleave_halves, write_gguf
from tabwise_model.gpt import GPT
from tabwise_model.quantize import dequantize_checkpoint, quantize_checkpoint
from tabwise_model.tokenizer import GPT2_PATTERN, SENTINELS, Tokenizer

SHAPE = attrs.evolve(
    LLAMA, vocab_size=TOKENIZER.vocab_size + 2, mlp_hidden=64, rope_theta=500.0
)
NAMES = {
    "attn_norm": "attention_norm",
    "ffn_norm": "mlp_norm",
    "attn_q": "attention.q",
    "attn_k": "attention.k",
    "attn_v": "attention.v",
    "attn_output": "attention.out",
    "ffn_gate": "mlp.gate",
    "ffn_up": "mlp.up",
    "ffn_down": "mlp.down",
}


def checkpoint_of(config: ModelConfig = SHAPE) -> Checkpoint:
    return Checkpoint(
        config=config,
        tokenizer=TOKENIZER,
        tensors=GPT(config).to_tensors(),
        name="tiny",
    )


def read_tensors(reader: GGUFReader, config: ModelConfig) -> Tensors:
    """What the file holds, under our names; query and key heads in halves again."""
    found = {}
    heads = {"attn_q": config.n_head, "attn_k": config.n_kv_head}
    for tensor in reader.tensors:
        array = dequantize(tensor.data, tensor.tensor_type)
        name = tensor.name.replace("token_embd", "embed")
        name = name.replace("output_norm", "norm").replace("blk.", "layers.")
        short = name.split(".")[2] if name.startswith("layers.") else ""
        if short in heads:
            split = array.reshape(heads[short], -1, 2, array.shape[1])
            array = split.swapaxes(1, 2).reshape(array.shape)
        found[name.replace(short, NAMES[short]) if short else name] = array
    return found


@pytest.mark.parametrize(
    ("dtype", "kind", "error"), [("fp32", 0, 0), ("fp16", 1, 1e-4), ("q8_0", 7, 1e-3)]
)
def test_every_tensor_is_in_the_file(
    tmp_path: Path, dtype: str, kind: int, error: float
) -> None:
    checkpoint = checkpoint_of()
    write_gguf(tmp_path / "x.gguf", checkpoint, dtype)
    reader = GGUFReader(tmp_path / "x.gguf")
    assert reader.fields["general.file_type"].contents() == kind
    found = read_tensors(reader, checkpoint.config)
    assert found.keys() == checkpoint.tensors.keys()
    for name, array in checkpoint.tensors.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=error, err_msg=name)


def test_the_metadata_says_shape_and_vocabulary(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", checkpoint_of(), "fp32")
    fields = GGUFReader(tmp_path / "x.gguf").fields
    wanted: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": "tabwise tiny",
        "llama.vocab_size": SHAPE.vocab_size,
        "llama.context_length": 64,
        "llama.embedding_length": 32,
        "llama.block_count": 2,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": np.float32(1e-5),
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 500.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.eos_token_id": TOKENIZER.end,
        "tokenizer.ggml.eot_token_id": TOKENIZER.end,
        "tokenizer.ggml.fim_pre_token_id": TOKENIZER.fim_prefix,
        "tokenizer.ggml.fim_suf_token_id": TOKENIZER.fim_suffix,
        "tokenizer.ggml.fim_mid_token_id": TOKENIZER.fim_middle,
        "tokenizer.ggml.fim_rep_token_id": TOKENIZER.repo_name,
        "tokenizer.ggml.fim_sep_token_id": TOKENIZER.file_sep,
    }
    for name, value in wanted.items():
        assert fields[name].contents() == value, name


def test_pieces_keep_their_ids_and_sentinels_are_control_tokens(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", checkpoint_of(), "fp32")
    fields = GGUFReader(tmp_path / "x.gguf").fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    end = TOKENIZER.end
    assert tokens[end:] == [*SENTINELS, "[PAD270]", "[PAD271]"]
    assert tokens[TOKENIZER.encode("def")[0]] == "def"
    assert tokens[TOKENIZER.encode("é")[0]] == "Ã©"
    types = fields["tokenizer.ggml.token_type"].contents()
    assert types == [1] * end + [3] * 6 + [5] * 2
    merges = fields["tokenizer.ggml.merges"].contents()
    assert merges[:4] == ["Ġ Ġ", "ĠĠ ĠĠ", "d e", "de f"]


def test_int8_is_multiplied_out(tmp_path: Path) -> None:
    small = quantize_checkpoint(checkpoint_of())
    write_gguf(tmp_path / "x.gguf", small, "fp32")
    found = read_tensors(GGUFReader(tmp_path / "x.gguf"), SHAPE)
    for name, array in dequantize_checkpoint(small).tensors.items():
        np.testing.assert_array_equal(found[name], array, name)


def test_halves_of_each_head_become_neighbours() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]
    assert interleave_halves(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def nan_norm() -> Checkpoint:
    checkpoint = checkpoint_of()
    broken = np.full(32, np.nan, np.float32)
    return attrs.evolve(
        checkpoint, tensors={**checkpoint.tensors, "norm.weight": broken}
    )


def other_pattern(pattern: str) -> Checkpoint:
    ranks = {p: i for i, p in enumerate(TOKENIZER.token_bytes()[: TOKENIZER.end])}
    return attrs.evolve(checkpoint_of(), tokenizer=Tokenizer(ranks, pattern))


@pytest.mark.parametrize(
    ("checkpoint", "dtype", "message"),
    [
        (random_checkpoint("gpt2"), "fp16", "family gpt2 is not written as GGUF"),
        (random_checkpoint("llama"), "q8_0", "mlp_hidden to divide by 32, got 48"),
        (checkpoint_of(), "bf16", "dtype must be one of fp32, fp16, q8_0"),
        (nan_norm(), "fp32", r"norm\.weight has values that are not finite"),
        (other_pattern(r"\w+|\W"), "fp16", "does not know this tokenizer's split"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, checkpoint: Checkpoint, dtype: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        write_gguf(tmp_path / "x.gguf", checkpoint, dtype)
    assert list(tmp_path.iterdir()) == []


def test_the_pattern_of_gpt2_has_its_own_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", other_pattern(GPT2_PATTERN), "fp32")
    fields = GGUFReader(tmp_path / "x.gguf").fields
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"

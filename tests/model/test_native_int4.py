"""INT4 in the native runner: the bits that the same weights give as INT8."""

import attrs
import numpy as np
import pytest

from support.models import EVEN, LLAMA, checkpoint_of
from support.native import ids, make_runner, need_library, paths
from support.native_reference import NativeReference
from tabwise_model.checkpoint import Checkpoint, quantized_names
from tabwise_model.config import ModelConfig
from tabwise_model.int4 import Int4Layout, round_matrix
from tabwise_model.quantize import expand_int4, with_int4
from tabwise_model.runners.native_library import Shape
from tabwise_model.runners.native_weights import native_form, shape_of
from tabwise_model.runners.protocol import Chunk
from tabwise_model.runners.torch import TorchRunner

# Heads of 32, three groups and five: numbers that neither 4 nor 2 divides.
LARGER = attrs.evolve(EVEN, n_embd=96, n_head=3, n_kv_head=1, mlp_hidden=160)


@pytest.fixture(autouse=True)
def library() -> None:
    need_library()


def int4_checkpoint(config: ModelConfig, layout: Int4Layout) -> Checkpoint:
    plain = checkpoint_of(config)
    matrices = {
        name: round_matrix(plain.tensors[f"{name}.weight"], layout.group)
        for name in quantized_names(config)
        if layout.packs(name)
    }
    return with_int4(plain, layout, matrices)


CASES = [
    (EVEN, Int4Layout()),
    (LARGER, Int4Layout(embed_bits=4)),
    (
        attrs.evolve(LARGER, n_embd=192, mlp_hidden=128),
        Int4Layout(group=64, embed_bits=4),
    ),
]


@pytest.mark.parametrize(("config", "layout"), CASES)
def test_every_path_gives_the_bits_of_the_references_int8(
    config: ModelConfig, layout: Int4Layout
) -> None:
    checkpoint = int4_checkpoint(config, layout)
    tokens = ids(40, vocab=config.vocab_size)
    reference = NativeReference(expand_int4(checkpoint)).logits(tokens)
    for path in paths():
        for threads in (1, 2):
            runner = make_runner(checkpoint, path=path, threads=threads)
            found = runner.extend_all(Chunk(0, 0, tokens))
            np.testing.assert_array_equal(found, reference, err_msg=path)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 9, 12])
def test_any_number_of_rows_gives_the_same_bits(rows: int) -> None:
    checkpoint = int4_checkpoint(LARGER, Int4Layout(embed_bits=4))
    tokens = ids(36)
    whole = make_runner(checkpoint).extend_all(Chunk(0, 0, tokens))
    runner = make_runner(checkpoint)
    for start in range(0, 36, rows):
        part = tokens[start : start + rows]
        found = runner.extend_all(Chunk(1, start, part))
        np.testing.assert_array_equal(found, whole[start : start + rows])


def test_the_library_keeps_int4_as_it_is_where_heads_are_whole_blocks() -> None:
    def groups(config: ModelConfig, layout: Int4Layout) -> tuple[int, int]:
        form = native_form(int4_checkpoint(config, layout))
        shape: Shape = shape_of(form, 1, 64)
        return shape.group, shape.embed_group

    assert groups(LARGER, Int4Layout()) == (32, 0)
    assert groups(LARGER, Int4Layout(embed_bits=4)) == (32, 32)
    heads_of_eight = attrs.evolve(LLAMA, mlp_hidden=64)
    assert groups(heads_of_eight, Int4Layout(embed_bits=4)) == (0, 0)


def test_padded_heads_are_expanded_and_give_the_same_bits() -> None:
    config = attrs.evolve(LLAMA, mlp_hidden=64, vocab_size=1001)
    checkpoint = int4_checkpoint(config, Int4Layout(embed_bits=4))
    found, wide = (
        make_runner(one).extend_all(Chunk(0, 0, ids(20)))
        for one in (checkpoint, expand_int4(checkpoint))
    )
    np.testing.assert_array_equal(found, wide)


def test_a_vocabulary_that_is_no_multiple_of_sixteen_is_padded() -> None:
    config = attrs.evolve(LARGER, vocab_size=1001)
    checkpoint = int4_checkpoint(config, Int4Layout(embed_bits=4))
    tokens = (1000, 3, 999, 17)
    found = make_runner(checkpoint).extend_all(Chunk(0, 0, tokens))
    wide = make_runner(expand_int4(checkpoint)).extend_all(Chunk(0, 0, tokens))
    assert found.shape == (4, 1001)
    np.testing.assert_array_equal(found, wide)


def test_torch_reads_the_same_weights() -> None:
    checkpoint = int4_checkpoint(LARGER, Int4Layout(embed_bits=4))
    tokens = ids(50)
    runner = TorchRunner(checkpoint, n_slots=1, slot_tokens=64, device="cpu")
    exact = runner.extend_all(Chunk(0, 0, tokens))
    found = make_runner(checkpoint).extend_all(Chunk(0, 0, tokens))
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 0 < error < 0.04  # activations are INT8 there

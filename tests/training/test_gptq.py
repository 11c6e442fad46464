"""GPTQ against rounding to nearest, and against its definition."""

import attrs
import numpy as np
import pytest

from support.models import EVEN, SHAPES, checkpoint_of
from tabwise_model.checkpoint import Checkpoint, quantized_names
from tabwise_model.int4 import Int4Layout, Int4Matrix, round_matrix
from tabwise_model.quantize import dequantize_checkpoint, with_int4
from tabwise_model.runners.protocol import Chunk, Logits
from tabwise_model.runners.torch import TorchRunner
from tabwise_training.data import Rows
from tabwise_training.gptq import PARTS, GptqOptions, gptq, quantize_matrix

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(48, 64)).astype(np.float32)
# Inputs that go together, as those of a real matrix do.
INPUTS = RNG.normal(size=(500, 24)) @ RNG.normal(size=(24, 64))
INPUTS += 0.3 * RNG.normal(size=INPUTS.shape)
MOMENTS = INPUTS.T @ INPUTS


def rows_of(checkpoint: Checkpoint, count: int) -> Rows:
    """Few different tokens: what a matrix is given then goes together, as in code."""
    width = checkpoint.config.block_size + 1
    return RNG.integers(60, 72, (count, width)).astype(np.uint16)


def answers_error(matrix: Int4Matrix) -> float:
    """Squared error of the answers to INPUTS."""
    wrong = matrix.integers() * matrix.scale[:, None].astype(np.float64) - WEIGHT
    return float(((INPUTS @ wrong.T) ** 2).sum())


@pytest.mark.parametrize("by_importance", [True, False])
def test_answers_are_much_nearer_than_by_rounding(by_importance: bool) -> None:
    plain = answers_error(round_matrix(WEIGHT, 32))
    options = GptqOptions(by_importance=by_importance)
    found = quantize_matrix(WEIGHT, MOMENTS, 32, options)
    assert answers_error(found) < 0.5 * plain


def test_inputs_that_do_not_go_together_are_rounded_to_the_nearest() -> None:
    found = quantize_matrix(WEIGHT, np.eye(64), 32, GptqOptions())
    nearest = round_matrix(WEIGHT, 32)
    np.testing.assert_array_equal(found.q, nearest.q)
    np.testing.assert_array_equal(found.steps, nearest.steps)


def test_an_input_that_was_never_seen_does_no_harm() -> None:
    moments = MOMENTS.copy()
    moments[5] = moments[:, 5] = 0
    found = quantize_matrix(WEIGHT, moments, 32, GptqOptions(damping=0.0))
    wrong = np.abs(found.integers() * found.scale[:, None] - WEIGHT)[:, 5]
    assert wrong.max() < 0.5 * np.abs(WEIGHT).max()


def test_moments_of_zero_are_rounded_to_the_nearest() -> None:
    found = quantize_matrix(WEIGHT, np.zeros((64, 64)), 32, GptqOptions())
    np.testing.assert_array_equal(found.q, round_matrix(WEIGHT, 32).q)


@pytest.mark.parametrize("embed_bits", [8, 4])
def test_a_models_logits_are_nearer_than_by_rounding(embed_bits: int) -> None:
    plain, layout = checkpoint_of(EVEN), Int4Layout(embed_bits=embed_bits)
    rows = rows_of(plain, 64)
    nearest = {
        name: round_matrix(plain.tensors[f"{name}.weight"], 32)
        for name in quantized_names(EVEN)
        if layout.packs(name)
    }
    found = gptq(plain, layout, rows, GptqOptions())
    assert found.keys() == nearest.keys()
    tokens = tuple(int(i) for i in rows_of(plain, 1)[0][:-1])

    def logits(checkpoint: Checkpoint) -> Logits:
        runner = TorchRunner(checkpoint, n_slots=1, slot_tokens=64, device="cpu")
        return runner.extend_all(Chunk(0, 0, tokens))

    exact = logits(plain)
    before, after = (
        np.linalg.norm(logits(with_int4(plain, layout, matrices)) - exact)
        for matrices in (nearest, found)
    )
    assert after < 0.8 * before


def test_family_gpt2_is_covered_too() -> None:
    plain = checkpoint_of(attrs.evolve(SHAPES["gpt2"], mlp_hidden=64))
    found = gptq(plain, Int4Layout(), rows_of(plain, 4), GptqOptions())
    small = dequantize_checkpoint(with_int4(plain, Int4Layout(), found))
    assert small.tensors.keys() == plain.tensors.keys()
    np.testing.assert_array_equal(
        small.tensors["layers.0.mlp.up.bias"], plain.tensors["layers.0.mlp.up.bias"]
    )


def test_every_matrix_of_a_block_is_in_one_part() -> None:
    for family, parts in PARTS.items():
        named = sorted(name for part in parts for name in part)
        wanted = sorted(
            name.removeprefix("layers.0.")
            for name in quantized_names(SHAPES[family])
            if name.startswith("layers.0.")
        )
        assert named == wanted

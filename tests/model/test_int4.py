"""INT4 matrices: packed, rounded, expanded, and kept in a checkpoint."""

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from support.models import EVEN, LLAMA, checkpoint_of
from tabwise_model.checkpoint import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    Checkpoint,
    CheckpointError,
    expected_tensors,
    load_checkpoint,
    quantized_names,
    save_checkpoint,
    write_sums,
)
from tabwise_model.int4 import (
    Int4Error,
    Int4Layout,
    Int4Matrix,
    choose_scale,
    choose_steps,
    pack_nibbles,
    round_matrix,
    unpack_nibbles,
)
from tabwise_model.quantize import (
    dequantize_checkpoint,
    expand_int4,
    quantize_checkpoint,
    with_int4,
)

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(40, 96)).astype(np.float32)


def rounded(layout: Int4Layout) -> Checkpoint:
    plain = checkpoint_of(EVEN)
    matrices = {
        name: round_matrix(plain.tensors[f"{name}.weight"], layout.group)
        for name in quantized_names(EVEN)
    }
    return with_int4(plain, layout, matrices)


def floats(matrix: Int4Matrix) -> Any:
    return matrix.integers().astype(np.float32) * matrix.scale[:, None]


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_nibbles_come_back(count: int) -> None:
    values = RNG.integers(0, 16, (5, count), np.uint8)
    packed = pack_nibbles(values)
    assert packed.shape == (5, (count + 1) // 2)
    np.testing.assert_array_equal(unpack_nibbles(packed, count), values)


def test_a_matrix_is_its_definition() -> None:
    """q * step * scale, and the earlier of two inputs in the low four bits."""
    matrix = round_matrix(WEIGHT, 32)
    by_hand = np.empty_like(WEIGHT)
    for row, column in np.ndindex(*WEIGHT.shape):
        step = int(matrix.steps[row, column // 32])
        by_hand[row, column] = int(matrix.q[row, column]) * step * matrix.scale[row]
    np.testing.assert_array_equal(floats(matrix), by_hand)
    tensors = matrix.to_tensors("x")
    assert tensors["x.weight"][3, 5] & 15 == matrix.q[3, 10] + 8
    assert tensors["x.weight"][3, 5] >> 4 == matrix.q[3, 11] + 8
    assert tensors["x.steps"].shape == (40, 2)


def test_a_matrix_comes_back_from_its_tensors() -> None:
    matrix = round_matrix(WEIGHT, 32)
    found = Int4Matrix.from_tensors(matrix.to_tensors("x"), "x", 32)
    for name in ("q", "steps", "scale"):
        np.testing.assert_array_equal(getattr(found, name), getattr(matrix, name))


def test_every_integer_is_one_that_the_native_runner_takes() -> None:
    """-8 x 15 = -120 at the least: INT8 products with it fit wherever INT8's do."""
    extreme = Int4Matrix(
        np.array([[-8] * 32, [7] * 32], np.int8),
        np.array([[15], [15]], np.uint8),
        np.ones(2, np.float32),
    )
    assert extreme.integers().tolist() == [[-120] * 32, [105] * 32]


def test_rounding_is_to_the_nearest_of_sixteen_steps() -> None:
    matrix = round_matrix(WEIGHT, 32)
    unit = matrix.scale[:, None] * np.repeat(matrix.steps, 32, axis=1)
    wrong = np.abs(floats(matrix) - WEIGHT)
    inside = (-8.5 * unit < WEIGHT) & (7.5 * unit > WEIGHT)
    assert inside.mean() > 0.98
    assert (wrong[inside] <= unit[inside] / 2 + 1e-6).all()


def test_steps_have_the_least_error_of_all_fifteen() -> None:
    scale = choose_scale(WEIGHT, 32)
    steps = choose_steps(WEIGHT, scale, 32)
    group = WEIGHT[7, 32:64]

    def error(step: int) -> float:
        unit = scale[7] * np.float32(step)
        q = np.clip(np.rint(group / unit), -8, 7)
        return float(((q * unit - group) ** 2).sum())

    assert min(range(1, 16), key=error) == steps[7, 1]


def test_important_inputs_are_kept_better() -> None:
    importance = np.where(np.arange(96) % 32 < 4, 100, 0.01).astype(np.float32)
    plain, weighed = (
        floats(round_matrix(WEIGHT, 32, counts)) for counts in (None, importance)
    )
    of_those = np.arange(96) % 32 < 4
    before, after = (
        ((found - WEIGHT)[:, of_those] ** 2).sum() for found in (plain, weighed)
    )
    assert after < 0.7 * before


def test_a_row_of_zeros_stays_zeros() -> None:
    weight = WEIGHT.copy()
    weight[3] = 0
    matrix = round_matrix(weight, 32)
    assert np.isfinite(matrix.scale).all()
    assert not matrix.q[3].any()


def test_smaller_groups_lose_less() -> None:
    coarse, fine = (
        ((floats(round_matrix(WEIGHT[:, :64], group)) - WEIGHT[:, :64]) ** 2).sum()
        for group in (64, 32)
    )
    assert fine < coarse


@pytest.mark.parametrize("embed_bits", [8, 4])
@pytest.mark.parametrize("group", [32])
def test_a_checkpoint_comes_back_whole(
    tmp_path: Path, group: int, embed_bits: int
) -> None:
    saved = rounded(Int4Layout(group=group, embed_bits=embed_bits))
    save_checkpoint(tmp_path / "m", saved)
    found = load_checkpoint(tmp_path / "m")
    assert (found.bits, found.int4) == (4, saved.int4)
    assert found.tensors.keys() == saved.tensors.keys()
    for name, array in saved.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)


def test_expanding_changes_no_weight() -> None:
    small = rounded(Int4Layout(embed_bits=4))
    wide = expand_int4(small)
    assert (wide.bits, wide.int4) == (8, None)
    assert wide.tensors.keys() == expected_tensors(EVEN, 8, None).keys()
    plain = dequantize_checkpoint(small)
    for name in quantized_names(EVEN):
        matrix = Int4Matrix.from_tensors(small.tensors, name, 32)
        np.testing.assert_array_equal(plain.tensors[f"{name}.weight"], floats(matrix))


def test_the_embedding_is_int8_unless_packed() -> None:
    small = rounded(Int4Layout(embed_bits=8))
    eight = quantize_checkpoint(checkpoint_of(EVEN))
    for name in ("embed.weight", "embed.scale"):
        np.testing.assert_array_equal(small.tensors[name], eight.tensors[name])


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"group": 48}, r"group must be one of \(32, 64\), got 48"),
        ({"embed_bits": 3}, "embed_bits must be 8 or 4, got 3"),
    ],
)
def test_an_unknown_layout_is_refused(layout: dict[str, int], message: str) -> None:
    with pytest.raises(Int4Error, match=message):
        Int4Layout(**layout)


def test_rows_that_groups_do_not_fill_are_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match=r"down has 48 inputs, which group 32"):
        expected_tensors(LLAMA, 4, Int4Layout())
    with pytest.raises(CheckpointError, match=r"embed has 32 inputs, which group 64"):
        expected_tensors(LLAMA, 4, Int4Layout(group=64, embed_bits=4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"int4": {"group": 64}}, r"down has 96 inputs, which group 64"),
        ({"int4": {"embed_bits": 4}}, "lacks embed.steps"),
        ({"int4": {"group": 16}}, "group must be one of"),
        ({"int4": {"width": 4}}, "unexpected keyword"),
        ({"int4": None}, "config.json"),
        ({"bits": 8}, "has an unknown tensor layers.0.attention.k.steps"),
        ({"bits": 5}, "bits must be 32, 8 or 4, got 5"),
    ],
)
def test_metadata_that_does_not_fit_the_tensors_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "m"
    save_checkpoint(folder, rounded(Int4Layout()))
    data = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(data | change))
    write_sums(folder, [CONFIG, WEIGHTS, TOKENIZER])
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_a_layout_beside_other_bits_is_refused() -> None:
    broken = attrs.evolve(checkpoint_of(EVEN), int4=Int4Layout())
    with pytest.raises(CheckpointError, match="32-bit matrices cannot have"):
        expected_tensors(broken.config, broken.bits, broken.int4)

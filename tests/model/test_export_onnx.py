"""ONNX graphs in onnxruntime: our logits, in one call or many, padded or not."""

from pathlib import Path

import attrs
import numpy as np
import pytest

from support.huggingface import load_tokenizer
from support.models import LLAMA, SHAPES, random_checkpoint
from support.onnx_runtime import OnnxRuntime
from support.tokenizer import TOKENIZER
from tabwise_model.checkpoint import Checkpoint, CheckpointError
from tabwise_model.config import Family
from tabwise_model.export.to_onnx import write_onnx
from tabwise_model.runners.protocol import Chunk, Logits
from tabwise_model.runners.torch import TorchRunner

IDS = np.random.default_rng(0).integers(0, LLAMA.vocab_size, (3, 12))
CLOSE = {"fp32": 2e-5, "fp16": 2e-2}


@pytest.fixture(scope="module", params=SHAPES)
def family(request: pytest.FixtureRequest) -> Family:
    kind: Family = request.param
    return kind


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("onnx") / family
    write_onnx(written, random_checkpoint(family), "fp32")
    return written


@pytest.fixture(scope="module")
def engine(folder: Path) -> OnnxRuntime:
    return OnnxRuntime(folder)


@pytest.fixture(scope="module")
def ours(family: Family) -> Logits:
    """(3, 12, V) in float32."""
    return reference(random_checkpoint(family))


def reference(checkpoint: Checkpoint) -> Logits:
    runner = TorchRunner(checkpoint, n_slots=1, slot_tokens=64, device="cpu")
    rows = [runner.extend_all(Chunk(0, 0, tuple(row))) for row in IDS.tolist()]
    return np.stack(rows)


def error(found: np.ndarray, exact: Logits) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("cuts", [[12], [1, 12], [5, 6, 12], range(1, 13)])
def test_logits_are_ours_however_the_tokens_come(
    engine: OnnxRuntime, ours: Logits, cuts: list[int]
) -> None:
    engine.begin(3)
    parts = [
        engine.extend(IDS[:, start:end])
        for start, end in zip([0, *cuts], cuts, strict=False)
    ]
    assert error(np.concatenate(parts, axis=1), ours) < CLOSE["fp32"]


def test_a_single_row_works_as_a_batch_does(engine: OnnxRuntime, ours: Logits) -> None:
    engine.begin(1)
    assert error(engine.extend(IDS[1:2]), ours[1:2]) < CLOSE["fp32"]


def test_padding_on_the_left_changes_nothing(engine: OnnxRuntime, ours: Logits) -> None:
    ids = np.concatenate([np.full((3, 4), 7), IDS], axis=1)
    mask = np.ones((3, 17), np.int64)
    mask[:, :4] = 0
    positions = np.maximum(np.arange(-4, 12), 0)[None].repeat(3, 0)
    engine.begin(3)
    first = engine.extend(ids[:, :15], mask[:, :15], positions[:, :15])
    last = engine.extend(ids[:, 15:], mask[:, :16], positions[:, 15:])
    found = np.concatenate([first[:, 4:], last], axis=1)
    assert error(found, ours) < CLOSE["fp32"]


def test_every_input_and_output_is_named(engine: OnnxRuntime) -> None:
    layers = [f"{i}.{part}" for i in range(2) for part in ("key", "value")]
    given = ["input_ids", "position_ids", "attention_mask"]
    assert list(engine.inputs) == [*given, *(f"past_key_values.{n}" for n in layers)]
    assert engine.outputs == ["logits", *(f"present.{name}" for name in layers)]
    assert engine.inputs["input_ids"].shape == ["batch", "tokens"]


def test_half_precision_is_nearly_ours(tmp_path: Path) -> None:
    checkpoint = random_checkpoint("llama")
    write_onnx(tmp_path / "half", checkpoint, "fp16")
    engine = OnnxRuntime(tmp_path / "half")
    engine.begin(3)
    assert error(engine.extend(IDS), reference(checkpoint)) < CLOSE["fp16"]


def test_the_tokenizer_beside_it_is_ours(folder: Path) -> None:
    text = "def f(x):\n    return x\n"
    assert load_tokenizer(folder).encode(text) == TOKENIZER.encode(text)


def broken(name: str, value: float) -> Checkpoint:
    checkpoint = random_checkpoint("llama")
    array = np.full_like(checkpoint.tensors[name], value)
    return attrs.evolve(checkpoint, tensors=checkpoint.tensors | {name: array})


@pytest.mark.parametrize(
    ("checkpoint", "dtype", "message"),
    [
        (random_checkpoint("llama"), "bf16", "dtype must be one of fp32, fp16"),
        (broken("norm.weight", np.nan), "fp32", "norm.weight has values that are not"),
        (broken("norm.weight", 1e6), "fp16", "norm.weight has values that fp16 cannot"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, checkpoint: Checkpoint, dtype: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        write_onnx(tmp_path / "x", checkpoint, dtype)
    assert list(tmp_path.iterdir()) == []

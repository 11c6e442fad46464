import re
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import attrs
import numpy as np
import pytest
from safetensors import SafetensorError

from support.models import EVEN, checkpoint_of, random_checkpoint
from tabwise_model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tabwise_model.int4 import Int4Layout
from tabwise_model.quantize import dequantize_checkpoint
from tabwise_model.tokenizer import GPT2_PATTERN, Tokenizer
from tabwise_server.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A float32 checkpoint that groups of 32 fill."""
    save_checkpoint(tmp_path / "plain", checkpoint_of(EVEN))
    return tmp_path / "plain"


def quantize(source: Path, out: Path, *flags: str) -> int:
    return main(["quantize", str(source), "--out", str(out), *flags])


def test_a_checkpoint_becomes_int8_and_keeps_its_story(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize(folder, tmp_path / "small", "--note", "Trained by hand.") == 0
    found = load_checkpoint(tmp_path / "small")
    assert found.bits == 8
    assert found.provenance["notes"] == ["Trained by hand."]
    said = capsys.readouterr().out
    for word in ("original", "quantised", "ratio"):
        assert word in said


@pytest.mark.parametrize("embeddings", ["8", "4"])
def test_a_checkpoint_becomes_int4_by_rounding(
    tmp_path: Path, folder: Path, embeddings: str
) -> None:
    flags = ("--bits", "4", "--method", "rtn", "--embeddings", embeddings)
    assert quantize(folder, tmp_path / "small", *flags) == 0
    found = load_checkpoint(tmp_path / "small")
    assert (found.bits, found.int4) == (4, Int4Layout(embed_bits=int(embeddings)))
    assert found.provenance["int4"] == {"method": "rtn", "from_bits": 32}


def test_int4_is_calibrated_on_the_standard_library_unless_told(
    tmp_path: Path, folder: Path
) -> None:
    assert quantize(folder, tmp_path / "a", "--bits", "4", "--rows", "4") == 0
    assert quantize(folder, tmp_path / "b", "--bits", "4", "--method", "rtn") == 0
    calibrated, rounded = (load_checkpoint(tmp_path / name) for name in "ab")
    assert calibrated.provenance["int4"] == {
        "method": "gptq",
        "calibration": "standard library",
        "rows": 4,
        "from_bits": 32,
    }
    name = "layers.1.mlp.down.weight"
    assert (calibrated.tensors[name] != rounded.tensors[name]).any()


def test_int4_is_calibrated_on_a_prepared_corpus(
    tmp_path: Path, folder: Path, prepared: Path
) -> None:
    flags = ("--bits", "4", "--rows", "2", "--calibration", str(prepared))
    assert quantize(folder, tmp_path / "small", *flags) == 0
    how = load_checkpoint(tmp_path / "small").provenance["int4"]
    assert how["calibration"] == str(prepared)


def test_int8_becomes_int4_but_nothing_is_quantised_to_what_it_is(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    four = ("--bits", "4", "--method", "rtn")
    assert quantize(folder, tmp_path / "eight") == 0
    assert quantize(tmp_path / "eight", tmp_path / "four", *four) == 0
    assert load_checkpoint(tmp_path / "four").provenance["int4"]["from_bits"] == 8
    for source, flags, message in (
        ("eight", (), "already 8-bit"),
        ("four", (), "already 4-bit"),
        ("four", four, "already 4-bit"),
    ):
        assert quantize(tmp_path / source, tmp_path / "no", *flags) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def not_finite(checkpoint: Checkpoint) -> Checkpoint:
    name = "layers.0.mlp.up.weight"
    broken = np.full_like(checkpoint.tensors[name], np.inf)
    return attrs.evolve(checkpoint, tensors=checkpoint.tensors | {name: broken})


@pytest.mark.parametrize(
    ("make", "flags", "message"),
    [
        (lambda c: c, ["--group", "32"], "--group goes with --bits 4"),
        (lambda c: c, ["--method", "rtn"], "--method goes with --bits 4"),
        (lambda c: c, ["--bits", "4", "--rows", "0"], "--rows must be at least 1"),
        (lambda c: c, ["--bits", "4", "--group", "64"], "has 96 inputs, which group"),
        (
            lambda c: random_checkpoint("llama"),
            ["--bits", "4"],
            "layers.0.mlp.down has 48 inputs, which group 32 does not divide",
        ),
        (not_finite, ["--bits", "4"], "layers.0.mlp.up.weight has values that are not"),
        (not_finite, [], "layers.0.mlp.up.weight has values that are not finite"),
        (
            lambda c: c,
            ["--bits", "4", "--calibration", "nowhere"],
            "tokenizer.tiktoken is missing; run `tabwise prepare` first",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path,
    make: Callable[[Checkpoint], Checkpoint],
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_checkpoint(tmp_path / "plain", make(checkpoint_of(EVEN)))
    assert quantize(tmp_path / "plain", tmp_path / "out", *flags) == 1
    assert message in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["plain"]


def test_what_is_cut_in_another_way_is_calibrated_on_only_where_it_is_prepared_so(
    tmp_path: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with an imported model's pattern."""
    first = checkpoint_of(EVEN)
    theirs = Tokenizer.loads(first.tokenizer.dumps(), GPT2_PATTERN)
    save_checkpoint(tmp_path / "plain", attrs.evolve(first, tokenizer=theirs))
    four = ("--bits", "4", "--rows", "2")
    assert quantize(tmp_path / "plain", tmp_path / "own", *four) == 0
    flags = (*four, "--calibration", str(prepared))
    assert quantize(tmp_path / "plain", tmp_path / "out", *flags) == 1
    assert "another split pattern than the checkpoint" in capsys.readouterr().err


def test_another_vocabulary_to_calibrate_on_is_refused(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    text = load_checkpoint(folder).tokenizer.dumps().splitlines(keepends=True)
    (other / "tokenizer.tiktoken").write_text("".join(text[:-1]))
    flags = ("--bits", "4", "--calibration", str(other))
    assert quantize(folder, tmp_path / "out", *flags) == 1
    assert "another vocabulary than the checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_neither_the_source_nor_what_is_no_model_is_replaced(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize(folder, folder) == 1
    assert "is what is read" in capsys.readouterr().err
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").touch()
    assert quantize(folder, tmp_path / "home") == 1
    assert "no model" in capsys.readouterr().err


def test_a_checkpoint_of_ours_is_replaced_and_another_model_only_by_force(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small"
    for _ in range(2):
        assert quantize(folder, out) == 0
        (out / "CARD.md").touch()
    (out / "pytorch_model.bin").touch()
    assert quantize(folder, out) == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert quantize(folder, out, "--force") == 0
    assert not (out / "pytorch_model.bin").exists()


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), SafetensorError("No space left")]
)
def test_a_full_disk_is_named_and_the_old_checkpoint_stays(
    tmp_path: Path,
    folder: Path,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert quantize(folder, tmp_path / "out") == 0
    monkeypatch.setattr("tabwise_model.checkpoint.save_file", Mock(side_effect=error))
    assert quantize(folder, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert re.search("cannot write .*out: .*No space left.*; make room", said)
    assert load_checkpoint(tmp_path / "out").bits == 8
    assert {file.name for file in tmp_path.iterdir()} == {"plain", "out"}


def test_what_int4_says_is_what_its_floats_say(tmp_path: Path, folder: Path) -> None:
    flags = ("--bits", "4", "--method", "rtn", "--embeddings", "4")
    assert quantize(folder, tmp_path / "small", *flags) == 0
    plain = dequantize_checkpoint(load_checkpoint(tmp_path / "small"))
    first = load_checkpoint(folder)
    for name, array in first.tensors.items():
        error = np.linalg.norm(plain.tensors[name] - array) / np.linalg.norm(array)
        assert error < 0.1, name

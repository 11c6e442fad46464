import re
import shutil
from pathlib import Path

import pytest

from support.huggingface import make_folder
from support.models import random_checkpoint
from tabwise_model.checkpoint import load_checkpoint, save_checkpoint
from tabwise_model.quantize import quantize_checkpoint
from tabwise_server.cli import main


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "saved", random_checkpoint("llama"))
    return tmp_path / "saved"


def export(saved: Path, out: Path, kind: str, *more: str) -> int:
    return main(["export", str(saved), "--format", kind, "--out", str(out), *more])


def test_import_says_what_it_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "hf", "llama")
    assert main(["import", str(tmp_path / "hf"), "--out", str(tmp_path / "ours")]) == 0
    assert load_checkpoint(tmp_path / "ours").config.n_layer == 2
    said = capsys.readouterr().out
    assert "llama, 0.02M parameters: 2 layers, 4 heads (2 KV), width 24" in said


def test_an_export_imports_again(tmp_path: Path, saved: Path) -> None:
    assert export(saved, tmp_path / "hf", "hf") == 0
    assert main(["import", str(tmp_path / "hf"), "--out", str(tmp_path / "back")]) == 0
    back, first = load_checkpoint(tmp_path / "back"), load_checkpoint(saved)
    assert back.tokenizer.dumps() == first.tokenizer.dumps()
    embed = back.tensors["embed.weight"][: first.config.vocab_size]
    assert (embed == first.tensors["embed.weight"]).all()


def test_gguf_is_half_precision_unless_asked(tmp_path: Path, saved: Path) -> None:
    assert export(saved, tmp_path / "half.gguf", "gguf") == 0
    assert export(saved, tmp_path / "full.gguf", "gguf", "--dtype", "fp32") == 0
    half, full = ((tmp_path / f"{n}.gguf").stat().st_size for n in ("half", "full"))
    assert half < full


@pytest.mark.parametrize(
    ("kind", "dtype", "message"),
    [
        ("hf", "q8_0", "one of fp32, fp16, bf16"),
        ("gguf", "bf16", "fp32, fp16, q8_0"),
        ("onnx", "bf16", "one of fp32, fp16, got"),
    ],
)
def test_a_dtype_that_the_format_lacks_is_refused(
    tmp_path: Path,
    saved: Path,
    kind: str,
    dtype: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export(saved, tmp_path / "out", kind, "--dtype", dtype) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_onnx_folder_replaces_a_model_only_by_force(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert export(saved, out, "hf") == 0
    assert export(saved, out, "onnx") == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert export(saved, out, "onnx", "--force") == 0
    assert (out / "model.onnx").is_file()
    assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize("kind", ["hf", "gguf"])
def test_what_is_there_is_replaced_only_by_force(
    tmp_path: Path, saved: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert export(saved, out, kind) == 0
    capsys.readouterr()
    assert export(saved, out, kind) == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert export(saved, out, kind, "--force") == 0


def test_import_replaces_only_by_force(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "hf", "gpt2")
    asked = ["import", str(tmp_path / "hf"), "--out", str(saved)]
    assert main(asked) == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert load_checkpoint(saved).config.family == "llama"
    assert main([*asked, "--force"]) == 0
    assert load_checkpoint(saved).config.family == "gpt2"


def test_force_never_replaces_what_is_no_model(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    assert export(saved, tmp_path / "home", "hf", "--force") == 1
    assert "no model" in capsys.readouterr().err
    assert export(saved, saved, "hf", "--force") == 1
    assert "is what is read" in capsys.readouterr().err
    assert export(saved, saved, "gguf", "--force") == 1
    assert "is a folder" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert export(saved, tmp_path / "file", "hf", "--force") == 1
    assert "is a file" in capsys.readouterr().err


@pytest.fixture
def run(saved: Path) -> Path:
    """A training run of one step."""
    run = saved.with_name("run")
    shutil.copytree(saved, run / "step-000004")
    for file in (run / "config.json", run / "step-000004" / "training.json"):
        file.write_text("{}")
    return run


@pytest.mark.parametrize(
    ("command", "source", "out", "message"),
    [
        ("quantize", "run", "run", "run holds .*step-000004, which is read"),
        ("export --format hf", "run", "run", "which is read"),
        ("export --format onnx", "saved", "run", "run holds a training run"),
        ("quantize", "saved", "run", "run holds a training run"),
        ("quantize", "saved", "run/step-000004", "000004 holds a training run"),
        ("prune --layers 1", "run", "run", "which is read"),
        ("quantize", "saved", ".", "holds .*saved, which is read"),
        ("quantize", "saved", "run/config.json/x", "config.json is a file; --out"),
        ("export --format gguf", "saved", "run/config.json/x", "is a file; --out"),
    ],
)
def test_force_never_replaces_a_run_nor_what_holds_the_source(
    run: Path,
    command: str,
    source: str,
    out: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = sorted(run.parent.rglob("*"))
    words = [str(run.parent / source), "--out", str(run.parent / out), "--force"]
    assert main([*command.split(), *words]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert sorted(run.parent.rglob("*")) == files


def test_a_recipe_alone_is_no_model(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    assert export(saved, tmp_path / "run", "hf", "--force") == 1
    assert "no model" in capsys.readouterr().err


def test_an_int8_checkpoint_is_exported_as_floats(tmp_path: Path, saved: Path) -> None:
    small = quantize_checkpoint(load_checkpoint(saved))
    save_checkpoint(tmp_path / "small", small)
    assert export(tmp_path / "small", tmp_path / "hf", "hf", "--dtype", "bf16") == 0
    assert main(["import", str(tmp_path / "hf"), "--out", str(tmp_path / "back")]) == 0
    assert load_checkpoint(tmp_path / "back").bits == 32


def test_a_damaged_checkpoint_is_refused_before_anything_is_written(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert export(saved, tmp_path / "hf", "hf") == 1
    assert "is damaged" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "config.json is not JSON"),
        ("tokenizer.json", "tokenizer.json is not JSON"),
        ("model.safetensors", "model.safetensors"),
    ],
)
def test_a_truncated_folder_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "hf", "llama")
    file = tmp_path / "hf" / name
    file.write_bytes(file.read_bytes()[:-30])
    assert main(["import", str(tmp_path / "hf"), "--out", str(tmp_path / "ours")]) == 1
    assert message in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["hf"]

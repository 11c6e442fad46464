import errno
import json
from pathlib import Path

import attrs
import numpy as np
import pytest

from support.models import random_checkpoint
from tabwise_model import checkpoint as checkpoint_module
from tabwise_model.checkpoint import (
    CheckpointError,
    load_checkpoint,
    resolve_checkpoint,
    save_checkpoint,
)
from tabwise_model.copying import Remembered
from tabwise_model.quantize import quantize_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model", random_checkpoint("llama"))
    return tmp_path / "model"


@pytest.mark.parametrize("bits", [32, 8])
def test_a_checkpoint_comes_back_whole(tmp_path: Path, bits: int) -> None:
    saved = attrs.evolve(random_checkpoint("llama"), provenance={"steps": 3})
    if bits == 8:
        saved = quantize_checkpoint(saved)
    save_checkpoint(tmp_path / "m", saved)
    found = load_checkpoint(tmp_path / "m")
    assert (found.config, found.bits, found.name) == (saved.config, bits, "m")
    assert found.provenance == {"steps": 3}
    assert found.tokenizer.dumps() == saved.tokenizer.dumps()
    for name, array in saved.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)


def test_what_it_remembers_comes_back(tmp_path: Path) -> None:
    plain = random_checkpoint("llama")
    text = np.array(plain.tokenizer.encode("def f(x):\n    return x\n"), np.int32)
    remembered = Remembered.of([text, text])
    saved = attrs.evolve(plain, remembered=remembered)
    save_checkpoint(tmp_path / "m", quantize_checkpoint(saved))
    save_checkpoint(tmp_path / "n", quantize_checkpoint(plain))
    found, other = load_checkpoint(tmp_path / "m"), load_checkpoint(tmp_path / "n")
    assert found.digest != other.digest  # answers of one are not the other's
    assert (other.remembered, found.tensors.keys()) == (None, other.tensors.keys())
    assert found.remembered is not None
    context = text[:3].tolist()
    for held in (found.remembered, remembered):
        copied = held.predict(context, 1.0)
        assert copied is not None
        assert copied.ids.tolist() == [int(text[3])] * 2


def test_what_cannot_be_remembered_is_refused(tmp_path: Path) -> None:
    plain = random_checkpoint("llama")
    ids = np.full(20, 10**6, np.int32)
    saved = attrs.evolve(plain, remembered=Remembered(ids, ids[:0]))
    save_checkpoint(tmp_path / "m", saved)
    with pytest.raises(CheckpointError, match="remembers: ids must begin with 16 gaps"):
        load_checkpoint(tmp_path / "m")


def test_saving_again_replaces_the_old_one(folder: Path) -> None:
    first = load_checkpoint(folder).digest
    save_checkpoint(folder, random_checkpoint("llama", seed=9))
    assert load_checkpoint(folder).digest != first
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_old_one(folder: Path) -> None:
    digest = load_checkpoint(folder).digest
    broken = random_checkpoint("llama")
    del broken.tensors["norm.weight"]
    with pytest.raises(CheckpointError, match=r"lacks norm\.weight"):
        save_checkpoint(folder, broken)
    assert load_checkpoint(folder).digest == digest
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.tiktoken"])
def test_a_damaged_file_is_named(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        load_checkpoint(folder)


def test_sums_that_are_no_text_are_named(folder: Path) -> None:
    (folder / "SHA256SUMS").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match="SHA256SUMS is damaged"):
        load_checkpoint(folder)


def test_what_may_not_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr(checkpoint_module, "_sha256", refuse)
    with pytest.raises(CheckpointError, match=r"safetensors: Permission denied"):
        load_checkpoint(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_checkpoint(folder)


def test_a_config_of_another_shape_is_refused(folder: Path) -> None:
    from tabwise_model.checkpoint import write_sums

    data = json.loads((folder / "config.json").read_text())
    data["model"]["mlp_hidden"] = 64
    (folder / "config.json").write_text(json.dumps(data))
    write_sums(folder, ["config.json", "model.safetensors", "tokenizer.tiktoken"])
    with pytest.raises(CheckpointError, match=r"mlp\.\w+\.weight must be float32"):
        load_checkpoint(folder)


def test_an_unknown_name_says_what_was_tried() -> None:
    with pytest.raises(CheckpointError, match="nor a shipped name"):
        resolve_checkpoint("no-such-model")


def test_a_bare_name_is_the_shipped_checkpoint_whatever_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("default", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    shipped = resolve_checkpoint("default")
    assert shipped.is_absolute()
    assert tmp_path not in shipped.parents
    for name in ("./default", "default/", "mine"):
        assert resolve_checkpoint(name) == Path(name)

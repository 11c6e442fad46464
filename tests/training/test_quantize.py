from pathlib import Path

import pytest

from support.models import random_checkpoint
from tabwise_model.checkpoint import load_checkpoint, save_checkpoint
from tabwise_server.cli import main


def test_a_checkpoint_becomes_int8_and_keeps_its_story(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "plain", random_checkpoint("llama"))
    out = str(tmp_path / "small")
    flags = ["--out", out, "--note", "Trained by hand."]
    assert main(["quantize", str(tmp_path / "plain"), *flags]) == 0
    found = load_checkpoint(tmp_path / "small")
    assert found.bits == 8
    assert found.provenance["notes"] == ["Trained by hand."]
    said = capsys.readouterr().out
    for word in ("original", "quantised", "ratio"):
        assert word in said


def test_int8_is_not_quantised_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "plain", random_checkpoint("llama"))
    for source, target in (("plain", "small"), ("small", "smaller")):
        status = main(
            ["quantize", str(tmp_path / source), "--out", str(tmp_path / target)]
        )
    assert status == 1
    assert "already 8-bit" in capsys.readouterr().err
    assert not (tmp_path / "smaller").exists()

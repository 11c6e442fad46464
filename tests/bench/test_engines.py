"""Engines measured, at the smallest size."""

import json
from pathlib import Path

import pytest

from support.language_server import isolated
from tabwise_model.checkpoint import load_checkpoint
from tabwise_server.bench.engines import CONTEXT, save_random
from tabwise_server.cli import main


@pytest.mark.slow
def test_our_engine_is_measured_beside_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in isolated(tmp_path).items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "engines.json"
    flags = ["--threads", "1", "--rounds", "2", "--out", str(out)]
    flags += ["--libraries", "onnxruntime"]
    assert main(["bench", "engines", *flags]) == 0
    rows = json.loads(out.read_text())
    names = [row["engine"] for row in rows]
    assert names == ["tabwise", "llama.cpp", "onnxruntime, INT8"]
    assert all(row["token_ms"] > 0 and row["prefill_ms"] > 0 for row in rows)
    assert "| default | 1 | llama.cpp |" in capsys.readouterr().out


def test_a_random_model_reads_no_longer_prompts_than_its_rivals(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save_random("7M", tmp_path / "random"))
    assert checkpoint.config.block_size == CONTEXT
    assert checkpoint.tokenizer.vocab_size == checkpoint.config.vocab_size

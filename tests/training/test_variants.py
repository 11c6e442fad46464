"""The table of variants, from one command."""

import inspect
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from support.models import EVEN, LLAMA, checkpoint_of
from tabwise_model.checkpoint import save_checkpoint
from tabwise_model.quantize import quantize_checkpoint
from tabwise_server.cli import main
from tabwise_training.errors import TrainingError
from tabwise_training.evaluation.variants import variants_markdown
from tabwise_training.variants import Variant, as_int8, forms_of, time_in_turns

LONG = attrs.evolve(EVEN, block_size=256, n_layer=1)


def test_one_command_measures_every_form_and_others_beside_it(
    tmp_path: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "first", checkpoint_of(LONG))
    save_checkpoint(tmp_path / "less", checkpoint_of(attrs.evolve(LONG, n_embd=32)))
    document = {"path": "json.py", "text": inspect.getsource(json.decoder)}
    (tmp_path / "test.jsonl").write_text(json.dumps(document) + "\n")
    asked = ["variants", str(tmp_path / "first"), str(tmp_path / "less")]
    flags = ("--positions", "4", "--likelihood-bytes", "300", "--turns", "2")
    files = ("--json", str(tmp_path / "x.json"), "--picture", str(tmp_path / "x.png"))
    data = ("--documents", str(tmp_path / "test.jsonl"), "--calibration", str(prepared))
    assert main([*asked, *flags, *files, *data]) == 0
    said = capsys.readouterr().out
    rows = json.loads((tmp_path / "x.json").read_text())["variants"]
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == [
        *("float32", "INT8", "INT4", "INT4, to nearest", "INT4, all", "less, INT8"),
    ]
    assert "no INT4, all, group 64: layers.0.mlp.down has 96 inputs" in said
    sizes = [by_name[name]["file_bytes"] for name in ("float32", "INT8", "INT4")]
    assert sizes == sorted(sizes, reverse=True)
    assert by_name["less, INT8"]["parameters"] < by_name["INT8"]["parameters"]
    assert all(row["ms_per_token"] > 0 and row["prefill_ms"] > 0 for row in rows)
    assert (tmp_path / "x.png").stat().st_size > 1_000
    for name in by_name:
        assert f"| {name} |" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--turns", "0"], "--turns must be at least 1, got 0"),
        (["--json", "FOLDER"], "is a folder; name a file in it"),
        (["--picture", "FOLDER"], "is a folder; name a file in it"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    tmp_path: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path) if flag == "FOLDER" else flag for flag in flags]
    assert main(["variants", "no such checkpoint", *given]) == 1
    assert message in capsys.readouterr().err


def test_forms_are_what_quantize_writes() -> None:
    plain = checkpoint_of(LONG)
    forms = {form.name: form.checkpoint for form in forms_of(plain, None)}
    assert (forms["INT8"].bits, forms["INT4"].bits) == (8, 4)
    assert forms["INT4"].provenance["int4"]["method"] == "gptq"
    assert forms["INT4, to nearest"].provenance["int4"]["method"] == "rtn"
    four = forms["INT4, all"].int4
    assert four is not None
    assert four.embed_bits == 4


def test_others_are_measured_in_the_bits_they_have() -> None:
    plain = attrs.evolve(checkpoint_of(LONG), name="x")
    assert as_int8(plain).name == "x, INT8"
    assert as_int8(plain).checkpoint.bits == 8
    assert as_int8(quantize_checkpoint(plain)).checkpoint.bits == 8


def test_a_context_too_short_to_be_timed_is_named() -> None:
    short = Variant(name="x", checkpoint=checkpoint_of(LLAMA), bytes=1)
    with pytest.raises(TrainingError, match="has a context of 64; 256 are needed"):
        time_in_turns([short], 1, 1)


def row(name: str, size: int, perplexity: float) -> dict[str, Any]:
    exact = {"value": 0.25, "low": 0.2, "high": 0.3, "n": 8}
    return {
        "name": name,
        "file_bytes": size,
        "ms_per_token": 0.25,
        "prefill_ms": 8.0,
        "runner": "NativeRunner",
        "bits_per_byte": {"value": 1.0},
        "perplexity": {"value": perplexity},
        "with_suffix": {"all": {"exact_match": exact}},
    }


def test_the_table_compares_with_the_first_row() -> None:
    rows = [row("float32", 8_000_000, 20.0), row("INT4", 1_000_000, 20.5)]
    machine = {"machine": "M", "threads": 1, "prompt": 256, "decode_after": 256}
    said = variants_markdown({**machine, "variants": rows})
    last = said.splitlines()[3]
    assert last.startswith("| INT4 | 1.00 | 8.00x | 0.250 | 8.0 | 1.0000 | +2.50% |")

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from support.tokenizer import TOKENIZER
from tabwise_model.checkpoint import load_checkpoint
from tabwise_model.tokenizer import Tokenizer
from tabwise_server.cli import main
from tabwise_training.config import RunConfig, load_config
from tabwise_training.errors import TrainingError
from tabwise_training.optim import learning_rate_scale
from tabwise_training.run_state import Log, read_log, steps_on_disk
from tabwise_training.train import train as train_config
from tabwise_training.trainer import SummedLoss, step_seed

COUNTS = (
    *("batch_tokens", "micro_rows", "threads"),
    *("eval_every", "eval_rows", "save_every", "log_every"),
)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def train(recipe: Path, out: Path, *flags: str) -> int:
    return main(["train", "--config", str(recipe), "--run.out", str(out), *flags])


def weights(out: Path, step: int) -> bytes:
    folder = out / f"step-{step:06d}"
    return b"".join(
        (folder / name).read_bytes()
        for name in ("model.safetensors", "optimizer.safetensors")
    )


def test_training_lowers_the_loss_and_leaves_a_checkpoint(
    recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert train(recipe, out, "--run.steps", "40") == 0
    losses = [float(row["loss"]) for row in read_log(out)]
    assert losses[-1] < losses[0] - 1
    checkpoint = load_checkpoint(steps_on_disk(out)[-1])
    assert checkpoint.provenance["step"] == 40
    assert (out / "loss.png").stat().st_size > 10_000


@pytest.mark.parametrize("dropout", ["0.0", "0.1"])
def test_an_interrupted_run_resumes_to_the_same_bits(
    dropout: str, recipe: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    flags = ("--model.dropout", dropout)
    assert train(recipe, whole, *flags) == 0
    assert train(recipe, cut, "--stop-after-s", "0.000001", *flags) == 130
    assert [p.name for p in steps_on_disk(cut)] == ["step-000001"]
    assert train(recipe, cut, *flags) == 0
    assert weights(cut, 8) == weights(whole, 8)
    logs = [
        [(row["step"], row["loss"], row["val_bpb"]) for row in read_log(out)]
        for out in (whole, cut)
    ]
    assert logs[0] == logs[1]


def test_dropout_is_drawn_anew_each_step_and_in_each_process() -> None:
    asked = [
        (seed, step, rank) for seed in (1, 2) for step in (0, 1) for rank in (0, 1)
    ]
    assert len({step_seed(*one) for one in asked}) == len(asked)


def train_in_two(recipe: Path, out: Path, *flags: str) -> int:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node=2", "-m", "tabwise_server", "train"]
    command += ["--config", str(recipe), "--run.out", str(out), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0 or "stopped and saved" in done.stdout, done.stderr
    return done.returncode


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_train_as_one_does_and_resume_to_the_same_bits(
    recipe: Path, tmp_path: Path
) -> None:
    """Same global batch, so the same losses but for the order of float sums."""
    alone, both, cut = tmp_path / "alone", tmp_path / "both", tmp_path / "cut"
    assert train(recipe, alone) == 0
    assert train_in_two(recipe, both) == 0
    for a, b in zip(read_log(alone), read_log(both), strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=2e-4)
    assert train_in_two(recipe, cut, "--stop-after-s", "0.000001") != 0
    assert [p.name for p in steps_on_disk(cut)] == ["step-000001"]
    assert train_in_two(recipe, cut) == 0
    assert weights(cut, 8) == weights(both, 8)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_run_leaves_whole_checkpoints_and_goes_on_from_them(
    recipe: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    steps = ("--run.steps", "60", "--run.save_every", "1")
    command = [sys.executable, "-m", "tabwise_server", "train"]
    command += ["--config", str(recipe), "--run.out", str(out), *steps]
    for lived in (3, 5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        before = len(steps_on_disk(out))
        while process.poll() is None and latest(out) < before + 7 * lived:
            time.sleep(0.01)
        process.kill()
        process.wait()
        for folder in steps_on_disk(out):
            load_checkpoint(folder)
    assert train(recipe, out, *steps) == 0
    assert train(recipe, whole, *steps) == 0
    assert weights(out, 60) == weights(whole, 60)
    logged = [row["step"] for row in read_log(out)]
    assert logged == [str(step) for step in range(1, 61)]


def latest(out: Path) -> int:
    """The step of the newest checkpoint, 0 for none."""
    found = steps_on_disk(out)
    return int(found[-1].name.removeprefix("step-")) if found else 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own
def test_compiled_training_learns_what_plain_training_does(
    device: str, recipe: Path, tmp_path: Path
) -> None:
    """Once the gradients of a compiled loss were zero on a GPU, at the right loss."""
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    flags = ("--run.device", device, "--run.steps", "6")
    assert train(recipe, plain, *flags, "--run.compile", "false") == 0
    assert train(recipe, compiled, *flags, "--run.compile", "true") == 0
    for a, b in zip(read_log(plain), read_log(compiled), strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=2e-3)
    assert float(b["loss"]) < float(read_log(compiled)[0]["loss"]) - 0.1


def test_gradients_of_zero_end_a_run(recipe: Path, tmp_path: Path) -> None:
    class Numb(SummedLoss):
        def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
            loss: Tensor = super().forward(inputs, targets)
            return loss * 0 + loss.detach()

    config = load_config(recipe, ["--run.out", str(tmp_path / "run")])
    with pytest.raises(TrainingError, match="every gradient is zero at step 0"):
        train_config(config, make_loss=Numb)


def test_a_gradient_that_is_not_finite_ends_a_run_before_it_is_saved(
    recipe: Path, tmp_path: Path
) -> None:
    class Steep(SummedLoss):
        def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
            loss: Tensor = super().forward(inputs, targets)
            return loss + (loss - loss.detach()).sqrt()  # 0, and infinitely steep

    flags = ["--run.out", str(tmp_path / "run"), "--run.save_every", "1"]
    with pytest.raises(
        TrainingError, match=r"the gradient is (nan|inf) at step 0; lower"
    ):
        train_config(load_config(recipe, flags), make_loss=Steep)
    assert not steps_on_disk(tmp_path / "run")


def test_a_full_disk_leaves_the_checkpoint_before(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    assert train(recipe, out, "--stop-after-s", "0.000001") == 130

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("tabwise_training.run_state.save_file", full)
        assert train(recipe, out) == 1
    said = capsys.readouterr().err
    assert "No space left on device; make room and run again" in said
    assert [p.name for p in out.glob("*step*")] == ["step-000001"]
    assert train(recipe, out) == 0


def test_a_model_that_cannot_fit_is_refused_before_it_is_made(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = ("--model.n_embd", "65536", "--model.n_layer", "96")
    assert train(recipe, tmp_path / "run", *large) == 1
    said = capsys.readouterr().err
    assert "a step needs at least" in said
    assert "lower run.micro_rows or the model" in said
    assert not steps_on_disk(tmp_path / "run")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--run.stepps", "3"], "stepps"),
        (["--run.steps", '"many"'], "steps"),
        (["--run.batch_tokens", "100"], "batch_tokens must be a multiple"),
        (["--data.workers", "0"], "workers"),
        (["--model.n_head", "3"], "n_embd 32 must divide by n_head 3"),
        (["--data.folder", "/nowhere"], "run `tabwise prepare` first"),
        (["steps"], "--section.key value"),
        *((["--run." + key, "0"], f"'{key}' must be >= 1: 0") for key in COUNTS),
        (["--data.shard_tokens", "0"], "'shard_tokens' must be >= 1: 0"),
        (["--data.seed", "-1"], "'seed' must be >= 0: -1"),
        (["--run.seed", "-1"], "'seed' must be >= 0: -1"),
        (["--run.device", "gpu"], "run.device must be auto, cpu or a device of this"),
        (["--run.device", "cuda:99"], "device of this machine, got cuda:99"),
        (["--run.out", __file__], f"cannot write {__file__}: File exists"),
    ],
)
def test_a_bad_recipe_is_one_clear_line(
    recipe: Path,
    tmp_path: Path,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(recipe, tmp_path / "run", *flags) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("recipe_bytes", "message"),
    [
        (b"\xff\xfe[run]", "is not TOML: 'utf-8' codec can't decode byte 0xff"),
        (b"run = 3\n", "run must be a table of keys, got 3"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_clear_line(
    recipe_bytes: bytes,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(recipe_bytes)
    assert train(file, tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("size", "flags", "message"),
    [
        (100, (), "cannot read {file}: "),
        (None, (), "cannot read {file}: "),
        (-1, ("--optim.muon_lr", "0"), "give the optim.muon_lr that the run was begun"),
    ],
)
def test_an_optimisers_state_that_cannot_be_used_is_one_clear_line(
    size: int | None,
    flags: tuple[str, ...],
    message: str,
    recipe: Path,
    begun: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(begun, tmp_path / "run")
    file = tmp_path / "run" / "step-000001" / "optimizer.safetensors"
    kept = file.read_bytes()
    file.unlink()
    if size is not None:
        file.write_bytes(kept[:size] if size > 0 else kept)
    assert train(recipe, tmp_path / "run", *flags) == 1
    said = capsys.readouterr().err
    assert message.format(file=file) in said
    assert said.count("\n") == 1


def test_a_full_disk_leaves_the_log_as_it_was(begun: Path, tmp_path: Path) -> None:
    shutil.copytree(begun, tmp_path / "run")
    before = read_log(tmp_path / "run")
    (tmp_path / "run" / "log.csv.part").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match=r"cannot write .*log\.csv: No space left"):
        Log(tmp_path / "run", step=1)
    assert read_log(tmp_path / "run") == before != []


def test_another_shape_does_not_resume(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(recipe, tmp_path / "run", "--run.steps", "1") == 0
    assert train(recipe, tmp_path / "run", "--model.n_layer", "1") == 1
    assert "n_layer 2 instead of 1" in capsys.readouterr().err


def copy_with(folder: Path, out: Path, vocabulary: str, ids: slice) -> Path:
    """A prepared corpus in the plain layout: other ids of it, another vocabulary."""
    out.mkdir()
    (out / "tokenizer.tiktoken").write_text(vocabulary)
    for split in ("train", "val"):
        tokens = np.fromfile(folder / f"{split}.bin", np.uint16)[ids]
        end = int(tokens.max())  # END is the last of the ids in use
        np.append(tokens, np.uint16(end)).tofile(out / f"{split}.bin")
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("vocabulary", "has another vocabulary than data.folder; give the corpus"),
        ("corpus", "was trained on other data: corpus "),
        ("--data.seed", "trained on other data: seed 1 instead of 77777 (data); give"),
        ("--data.shard_tokens", "shard_tokens 20000 instead of 77777 (data); give"),
    ],
)
def test_other_data_does_not_resume(
    recipe: Path,
    prepared: Path,
    begun: Path,
    tmp_path: Path,
    change: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other"
    vocabulary = TOKENIZER.dumps()
    if change == "vocabulary":
        ranks = list(TOKENIZER.token_bytes()[: TOKENIZER.end])
        ranks[-1], ranks[-2] = ranks[-2], ranks[-1]
        vocabulary = Tokenizer({b: i for i, b in enumerate(ranks)}).dumps()
    copy_with(prepared, other, vocabulary, slice(0, -2 if change == "corpus" else None))
    changed = change if change.startswith("--") else "--data.folder"
    value = "77777" if change.startswith("--") else str(other)
    assert train(recipe, begun, changed, value) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_run_saved_before_its_data_was_noted_resumes(
    recipe: Path, begun: Path, tmp_path: Path
) -> None:
    shutil.copytree(begun, tmp_path / "run")
    file = tmp_path / "run" / "step-000001" / "training.json"
    saved = json.loads(file.read_text())
    del saved["data"], saved["place"]["layout"]
    file.write_text(json.dumps(saved))
    assert train(recipe, tmp_path / "run", "--run.steps", "2") == 0
    again = tmp_path / "run" / "step-000002" / "training.json"
    assert json.loads(again.read_text())["place"]["layout"] == 1


def test_the_millionth_step_is_the_newest(tmp_path: Path) -> None:
    names = ["step-000001", "step-999999", "step-1000000"]
    for name in (*reversed(names), "step-best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "training.json").touch()
    assert [p.name for p in steps_on_disk(tmp_path)] == names


def test_a_validation_split_shorter_than_a_row_is_refused(
    recipe: Path,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = copy_with(prepared, tmp_path / "other", TOKENIZER.dumps(), slice(None))
    ids = np.fromfile(other / "val.bin", np.uint16)
    ids[-64:].tofile(other / "val.bin")
    assert train(recipe, tmp_path / "run", "--data.folder", str(other)) == 1
    assert "val.bin has 64 tokens, but must have a row of" in capsys.readouterr().err


def test_the_schedule_warms_up_holds_and_falls() -> None:
    run = RunConfig(
        out="x", steps=100, batch_tokens=1, warmup_steps=10, decay_share=0.5
    )
    scales = [learning_rate_scale(step, run) for step in range(101)]
    assert scales[0] == pytest.approx(0.1)
    assert scales[10] == scales[50] == 1
    assert scales[75] == pytest.approx(0.05 + 0.95 * 0.5)
    assert scales[100] == pytest.approx(0.05)


def test_flags_override_the_file(recipe: Path) -> None:
    config = load_config(recipe, ["--optim.muon_lr", "0.5", "--run.out", "a b"])
    assert (config.optim.muon_lr, config.run.out) == (0.5, "a b")
    with pytest.raises(TrainingError, match="cannot read"):
        load_config(recipe.parent / "none.toml")

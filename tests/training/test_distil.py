"""Distillation: the loss is the teacher's, the compute the same, the command whole."""

from pathlib import Path

import attrs
import pytest
import torch

from support.models import LLAMA, checkpoint_of
from tabwise_model.checkpoint import (
    count_parameters,
    load_checkpoint,
    resolve_checkpoint,
    save_checkpoint,
)
from tabwise_model.gpt import GPT
from tabwise_server.cli import main
from tabwise_training.config import load_config
from tabwise_training.distil import DistilledLoss, plain_recipe
from tabwise_training.run_state import steps_on_disk
from tabwise_training.throughput import flops_per_token
from tabwise_training.trainer import SummedLoss, Trainer
from tabwise_training.validation import model_of

TEACHER = checkpoint_of(attrs.evolve(LLAMA, vocab_size=320))
STUDENT = attrs.evolve(TEACHER.config, n_layer=1, n_embd=16, n_head=2, n_kv_head=1)
RECIPE = """
[model]
block_size = 32
n_layer = 1
n_head = 2
n_kv_head = 1
n_embd = 16
mlp_hidden = 32

[data]
folder = "FOLDER"
shard_tokens = 20000

[run]
out = "OUT"
steps = 12
batch_tokens = 256
warmup_steps = 2
eval_every = 6
eval_rows = 8
save_every = 6
threads = 1
"""


@pytest.fixture
def recipe(tmp_path: Path, prepared: Path) -> Path:
    text = RECIPE.replace("FOLDER", str(prepared)).replace("OUT", str(tmp_path / "run"))
    (tmp_path / "student.toml").write_text(text)
    return tmp_path / "student.toml"


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "teacher", TEACHER)
    return tmp_path / "teacher"


def test_a_student_that_only_listens_comes_to_say_what_its_teacher_says() -> None:
    torch.manual_seed(0)
    student, taught = GPT(STUDENT), model_of(TEACHER)
    loss = DistilledLoss(student, taught, 1.0)
    inputs = torch.randint(60, 90, (4, 16))
    nonsense = torch.randint(60, 90, (4, 16))  # the tokens themselves do not count
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)

    def divergence() -> float:
        with torch.no_grad():
            theirs = torch.log_softmax(taught.logits(taught.hidden(inputs)), -1)
            ours = torch.log_softmax(student.logits(student.hidden(inputs)), -1)
        return float((theirs.exp() * (theirs - ours)).sum(-1).mean())

    before = divergence()
    for _ in range(60):
        optimizer.zero_grad()
        torch.autograd.backward(loss(inputs, nonsense))
        optimizer.step()
    assert divergence() < 0.3 * before
    assert all(p.grad is None for p in taught.parameters())


def test_a_share_of_nothing_is_plain_training() -> None:
    student = GPT(STUDENT)
    inputs = torch.randint(0, 270, (2, 16))
    plain = SummedLoss(student)(inputs, inputs)
    found = DistilledLoss(student, model_of(TEACHER), 0.0)(inputs, inputs)
    torch.testing.assert_close(found, plain)


def test_the_plain_student_has_the_compute_of_both(recipe: Path) -> None:
    config = load_config(recipe)
    plain = plain_recipe(TEACHER, config)
    shape = attrs.evolve(STUDENT, block_size=32, mlp_hidden=32)
    student, taught = flops_per_token(GPT(shape)), flops_per_token(GPT(TEACHER.config))
    assert plain.run.out == f"{config.run.out}-plain"
    asked = config.run.steps * (student + taught / 3)
    assert plain.run.steps * student == pytest.approx(asked, abs=student / 2)
    assert attrs.evolve(plain, run=config.run) == config


def test_the_command_trains_both_students_and_names_the_teacher(
    tmp_path: Path, recipe: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distil", str(teacher), "--config", str(recipe), "--beside"]) == 0
    said = capsys.readouterr().out
    for label in ("teacher", "distilled", "plain"):
        assert any(line.startswith(f"{label} ") for line in said.splitlines())
    found = load_checkpoint(steps_on_disk(tmp_path / "run")[-1])
    wanted = {"from": load_checkpoint(teacher).digest, "share": 0.7}
    assert found.provenance["distilled"] == wanted
    plain = load_checkpoint(steps_on_disk(tmp_path / "run-plain")[-1])
    assert "distilled" not in plain.provenance
    assert plain.provenance["step"] > found.provenance["step"] == 12


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--share", "0"), "--share must be over 0, at most 1, got 0.0"),
        (("--share", "1.5"), "--share must be over 0, at most 1, got 1.5"),
        (("--model.block_size", "128"), "at most the teacher's 64, got 128"),
        (("--model.n_head", "3"), "n_embd 16 must divide by n_head 3"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path,
    recipe: Path,
    teacher: Path,
    flags: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["distil", str(teacher), "--config", str(recipe), *flags]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_another_vocabulary_is_refused(
    tmp_path: Path, recipe: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = checkpoint_of(LLAMA)
    save_checkpoint(tmp_path / "small", small)
    assert main(["distil", str(tmp_path / "small"), "--config", str(recipe)]) == 1
    assert "has 270 rows in its head, the student 320" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    lines = (prepared / "tokenizer.tiktoken").read_text().splitlines(keepends=True)
    (other / "tokenizer.tiktoken").write_text("".join(lines[:-1]))
    asked = ["distil", str(tmp_path / "small"), "--config", str(recipe)]
    assert main([*asked, "--data.folder", str(other)]) == 1
    assert "another vocabulary than the checkpoint" in capsys.readouterr().err


def test_the_recipes_student_is_a_third_of_the_shipped_model() -> None:
    teacher = load_checkpoint(resolve_checkpoint("default"))
    configs = Path(__file__).parents[2] / "training" / "configs"
    recipe = load_config(configs / "cpu-2m-student.toml")
    student = Trainer.shape_of(recipe, teacher.tokenizer)
    share = count_parameters(student) / count_parameters(teacher.config)
    assert 0.3 < share <= 1 / 3
    assert student.block_size == teacher.config.block_size

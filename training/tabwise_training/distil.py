"""`tabwise distil`: a student learns from a teacher's probabilities, not tokens alone.

A run of a recipe like `tabwise train`'s, with another loss. With `--beside`, the same
student is trained plainly too, for as many steps more as the teacher's work is worth.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from tabwise_model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from tabwise_model.gpt import GPT
from tabwise_training.calibration import check_vocabulary
from tabwise_training.config import TrainConfig, load_config
from tabwise_training.errors import TrainingError
from tabwise_training.loss import Teacher
from tabwise_training.quantize import find_checkpoint
from tabwise_training.run_state import steps_on_disk
from tabwise_training.throughput import flops_per_token
from tabwise_training.train import train
from tabwise_training.trainer import SummedLoss, Trainer
from tabwise_training.validation import model_of, say_bits, validation_rows

ERRORS = (TrainingError, CheckpointError)


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("teacher", help="a checkpoint's folder or name, or a run's")
    add("--config", type=Path, required=True, help="the student's recipe (TOML)")
    add(
        "--share",
        type=float,
        default=0.7,
        help="of the loss that is the teacher's; the tokens have the rest (0.7)",
    )
    add(
        "--beside",
        action="store_true",
        help="train the student plainly as well, with the same compute, in OUT-plain",
    )
    parser.set_defaults(overrides=[])
    parser.epilog = "Any --section.key VALUE overrides the recipe."


def run(arguments: argparse.Namespace) -> int:
    if not 0 < arguments.share <= 1:
        raise TrainingError(f"--share must be over 0, at most 1, got {arguments.share}")
    recipe = load_config(arguments.config, arguments.overrides)
    teacher = load_checkpoint(find_checkpoint(arguments.teacher))
    check_teacher(teacher, recipe)
    story = {"distilled": {"from": teacher.digest, "share": arguments.share}}
    loss = partial(DistilledLoss, teacher=model_of(teacher), share=arguments.share)
    if not train(recipe, make_loss=loss, story=story):
        return 130
    runs = {"distilled": recipe}
    if arguments.beside:
        runs["plain"] = plain_recipe(teacher, recipe)
        if not train(runs["plain"]):
            return 130
    _say_all(teacher, runs)
    return 0


class DistilledLoss(SummedLoss):
    """Against what a teacher expects and the tokens."""

    def __init__(self, model: GPT, teacher: GPT, share: float) -> None:
        super().__init__(model)
        self.teacher = teacher.to(model.embed.weight.device)
        self.taught = self.teacher.hidden
        self.share = share

    def compile(self, *args: Any, **options: Any) -> None:
        super().compile(*args, **options)
        self.taught = torch.compile(self.teacher.hidden, *args, **options)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            taught = self.taught(inputs)
        teacher = Teacher(taught, self.teacher.embed.weight, self.share)
        return self.of_hidden(self.hidden(inputs), targets, teacher)


def check_teacher(teacher: Checkpoint, recipe: TrainConfig) -> None:
    """Raise TrainingError if the recipe's student cannot learn from it."""
    check_vocabulary(Path(recipe.data.folder), teacher.tokenizer)
    student = Trainer.shape_of(recipe, teacher.tokenizer)
    if teacher.config.vocab_size != student.vocab_size:
        raise TrainingError(
            f"{teacher.name} has {teacher.config.vocab_size} rows in its head, the "
            f"student {student.vocab_size}: it must be a model that was trained here"
        )
    if teacher.config.block_size < student.block_size:
        raise TrainingError(
            f"[model] block_size must be at most the teacher's "
            f"{teacher.config.block_size}, got {student.block_size}"
        )


def plain_recipe(teacher: Checkpoint, recipe: TrainConfig) -> TrainConfig:
    """The student's training without the teacher: for as many steps as take the
    arithmetic of both."""
    student = GPT(Trainer.shape_of(recipe, teacher.tokenizer))
    taught = flops_per_token(model_of(teacher)) / 3  # forward only
    more = 1 + taught / flops_per_token(student)
    steps = round(more * recipe.run.steps)
    run = attrs.evolve(recipe.run, steps=steps, out=f"{recipe.run.out}-plain")
    print(f"plainly: {steps} steps, for the teacher's work ({more:.2f} times as many)")
    return attrs.evolve(recipe, run=run)


def _say_all(teacher: Checkpoint, runs: dict[str, TrainConfig]) -> None:
    first = next(iter(runs.values()))
    rows = validation_rows(teacher, Path(first.data.folder))
    rows = rows[:, : first.model.block_size + 1]
    say_bits("teacher", teacher, rows)
    for label, recipe in runs.items():
        folder = steps_on_disk(Path(recipe.run.out))[-1]
        say_bits(label, load_checkpoint(folder), rows)
        print(f"           {folder}")

"""`tabwise train`: a recipe and a prepared corpus become a checkpoint.

Runs as one process, or one a device under `torchrun`. A run that stops anywhere resumes
from its newest checkpoint, and goes on exactly as if it had not stopped.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabwise_model.checkpoint import CheckpointError
from tabwise_training.config import TrainConfig, load_config
from tabwise_training.errors import TrainingError
from tabwise_training.processes import join_processes
from tabwise_training.trainer import MakeLoss, SummedLoss, Trainer

ERRORS = (TrainingError, CheckpointError)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="a recipe (TOML)")
    parser.add_argument("--stop-after-s", type=float, help="save and stop after this")
    parser.set_defaults(overrides=[])
    parser.epilog = "Any --section.key VALUE overrides the recipe."


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.overrides)
    return 0 if train(config, arguments.stop_after_s) else 130


def train(
    config: TrainConfig,
    stop_after_s: float | None = None,
    make_loss: MakeLoss = SummedLoss,
    story: Mapping[str, Any] | None = None,
) -> bool:
    """Run the recipe, or go on with it; returns whether it is finished. See
    `Trainer`."""
    with join_processes(config.run) as processes:
        trainer = Trainer(config, processes, make_loss, story)
        _stop_on_signals(trainer)
        return trainer.train(stop_after_s)


def _stop_on_signals(trainer: Trainer) -> None:
    """Ctrl-C or SIGTERM ends the run after its current step, saved; a second one ends
    it at once. Set even where a shell has masked them."""

    def stop(number: int, frame: Any) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, signal.default_int_handler)
        trainer.stopping = True

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)

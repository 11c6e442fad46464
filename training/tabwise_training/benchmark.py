"""`tabwise bench-train`: how much of the machine a recipe's training uses.

Runs beside the plain way: the same shape with PyTorch's own cross-entropy over all
logits, AdamW, and random windows of the token file, as nanoGPT's `train.py` does it.
Under torchrun both are distributed, and the rate is that of all processes together.
Both take turns with the measuring of the machine's matrix rate, so that a machine that
slows down slows all three.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tabwise_model.checkpoint import CheckpointError
from tabwise_model.gpt import GPT
from tabwise_training.config import TrainConfig, load_config
from tabwise_training.data import Documents, targets_of
from tabwise_training.destination import make_room_for
from tabwise_training.errors import TrainingError
from tabwise_training.prepare import load_tokenizer
from tabwise_training.processes import Processes, join_processes
from tabwise_training.throughput import flops_per_token, measure_matrix_rate
from tabwise_training.trainer import Trainer

ERRORS = (TrainingError, CheckpointError)
WARM_UP = 2  # steps that are not counted: compiling, first pages


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="a recipe (TOML)")
    parser.add_argument("--steps", type=int, default=12, help="of each, after warm-up")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.set_defaults(overrides=[])
    parser.epilog = "Any --section.key VALUE overrides the recipe."


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.overrides)
    if arguments.json:
        make_room_for(arguments.json)
    with tempfile.TemporaryDirectory() as out:
        run = attrs.evolve(config.run, out=out, eval_every=10**9, save_every=10**9)
        config = attrs.evolve(config, run=run)
        with join_processes(run) as processes:
            figures = compare(config, processes, arguments.steps)
    if not processes.leads:
        return 0
    print(to_markdown(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


@attrs.define
class Timed:
    """Seconds of each step, and of waiting for its data."""

    seconds: list[float] = attrs.Factory(list)
    waits: list[float] = attrs.Factory(list)


def compare(config: TrainConfig, processes: Processes, steps: int) -> dict[str, object]:
    """Both ways and the matrix rate, turn by turn; the figures are medians."""
    trainer = Trainer(config, processes)
    plain = PlainTraining(config, processes)
    dtype: torch.dtype = getattr(torch, config.run.dtype)
    ours, theirs, rates = Timed(), Timed(), list[float]()
    with trainer.stepper() as step:
        for number in range(WARM_UP + steps):
            for timed, take in ((ours, step), (theirs, plain.step)):
                began = time.perf_counter()
                waited = take()
                if number >= WARM_UP:
                    timed.seconds.append(time.perf_counter() - began)
                    timed.waits.append(waited)
            mine = torch.tensor(measure_matrix_rate(processes.device, dtype))
            rates.append(float(processes.sum(mine.to(processes.device))))
    rate = statistics.median(rates)
    work = flops_per_token(plain.model)
    tokens = config.run.batch_tokens
    return {
        "recipe": config.to_json(),
        "matrix_rate": rate,
        "ours": _figures(ours, tokens, work / rate),
        "plain": _figures(theirs, tokens, work / rate),
    }


def _figures(timed: Timed, tokens: int, share: float) -> dict[str, float]:
    seconds = statistics.median(timed.seconds)
    return {
        "tokens_per_s": tokens / seconds,
        "mfu": tokens / seconds * share,
        "data_wait": statistics.median(timed.waits) / seconds,
    }


class PlainTraining:
    """nanoGPT's loop over the same shape and batch, on the recipe's device."""

    def __init__(self, config: TrainConfig, processes: Processes) -> None:
        tokenizer = load_tokenizer(Path(config.data.folder))
        device = processes.device
        self.model = GPT(Trainer.shape_of(config, tokenizer)).to(device)
        self._run, self._device = config.run, device
        self._rows = self._run.batch_tokens // config.model.block_size
        self._rows //= processes.count
        self._dtype: torch.dtype = getattr(torch, config.run.dtype)
        self._block = config.model.block_size
        self._end = tokenizer.end
        documents = Documents(Path(config.data.folder), "train", tokenizer)
        self._tokens = documents.tokens
        self._rng = np.random.default_rng(processes.rank)
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self._loss: nn.Module = self.model
        if config.run.compile:
            self.model.compile()
        if processes.count > 1:
            self._loss = DistributedDataParallel(self.model)

    def step(self) -> float:
        """One optimiser step; returns seconds spent on drawing data."""
        waited, micro = 0.0, min(self._rows, self._run.micro_rows)
        for done in range(0, self._rows, micro):
            began = time.perf_counter()
            inputs, targets = self._draw(micro)
            waited += time.perf_counter() - began
            if isinstance(self._loss, DistributedDataParallel):
                self._loss.require_backward_grad_sync = done + micro >= self._rows
            with torch.autocast(
                self._device.type, self._dtype, enabled=self._dtype != torch.float32
            ):
                loss = self._loss(inputs, targets)
            (loss * micro / self._rows).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        float(loss.detach())  # waits for the device
        return waited

    def _draw(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        starts = self._rng.integers(len(self._tokens) - self._block - 1, size=rows)
        ids = np.stack([self._tokens[s : s + self._block + 1] for s in starts])
        inputs, targets = targets_of(ids, self._end)
        return (
            torch.from_numpy(inputs).to(self._device),
            torch.from_numpy(targets).to(self._device),
        )


def to_markdown(figures: dict[str, object]) -> str:
    lines = [
        "| | tokens/s | of the matrix rate | waiting for data |",
        "|---|---|---|---|",
    ]
    for name in ("ours", "plain"):
        row = figures[name]
        assert isinstance(row, dict)
        lines.append(
            f"| {name} | {row['tokens_per_s']:,.0f} | {row['mfu']:.0%} "
            f"| {row['data_wait']:.1%} |"
        )
    rate = figures["matrix_rate"]
    assert isinstance(rate, float)
    return "\n".join([*lines, "", f"Matrix rate: {rate / 1e9:,.0f} GFLOP/s."])

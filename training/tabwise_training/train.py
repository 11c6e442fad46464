"""`tabwise train`: a recipe and a prepared corpus become a checkpoint.

Runs as one process, or one a device under `torchrun`. A run that stops anywhere resumes
from its newest checkpoint, and goes on exactly as if it had not stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tabwise_model.checkpoint import CheckpointError
from tabwise_model.config import ConfigError, ModelConfig
from tabwise_model.gpt import GPT
from tabwise_training.config import RunConfig, TrainConfig, load_config
from tabwise_training.data import (
    Batches,
    Documents,
    Rows,
    load_tokenizer,
    micro_batches,
    plain_rows,
    targets_of,
)
from tabwise_training.errors import TrainingError
from tabwise_training.loss import head_cross_entropy
from tabwise_training.optim import Optimizers, clip_gradients, learning_rate_scale
from tabwise_training.run_state import (
    Log,
    Progress,
    draw_losses,
    load_run,
    save_run,
    steps_on_disk,
)

ERRORS = (TrainingError, CheckpointError)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="a recipe (TOML)")
    parser.add_argument("--stop-after-s", type=float, help="save and stop after this")
    parser.set_defaults(overrides=[])
    parser.epilog = "Any --section.key VALUE overrides the recipe."


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.overrides)
    # a stop by the system, and Ctrl-C even where a shell has masked it, save first
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, signal.default_int_handler)
    with _processes(config.run) as processes:
        Trainer(config, processes).train(arguments.stop_after_s)
    return 0


@attrs.frozen(kw_only=True)
class Processes:
    """Which process this is, of how many, and its device."""

    rank: int = 0
    count: int = 1
    device: torch.device = attrs.field(factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        return self.rank == 0


@contextlib.contextmanager
def _processes(run: RunConfig) -> Iterator[Processes]:
    """Join torchrun's group if there is one; leave it at the end."""
    kind = run.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if kind == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    else:
        device = torch.device(kind)
    if count == 1:
        yield Processes(device=device)
        return
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Processes(rank=dist.get_rank(), count=count, device=device)
    finally:
        dist.destroy_process_group()


class SummedLoss(nn.Module):
    """The model as DDP wraps it: rows in, summed loss in nats out."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        hidden = self.model.hidden(inputs)
        return head_cross_entropy(hidden, self.model.embed.weight, targets)


class Trainer:
    """One run: its model, optimisers and data, from its newest checkpoint on."""

    def __init__(self, config: TrainConfig, processes: Processes) -> None:
        self._config = config
        self._processes = processes
        self._run = config.run
        if self._run.threads:
            torch.set_num_threads(self._run.threads)
        torch.manual_seed(self._run.seed)
        self._out = Path(self._run.out)
        self._folder = Path(config.data.folder)
        self._rows_a_step = self._count_rows()
        self._tokenizer = load_tokenizer(self._folder)
        self._model = GPT(self._shape()).to(processes.device)
        self._loss = self._wrap(SummedLoss(self._model))
        self._optimizers = Optimizers(self._model, config.optim)
        self._progress = self._resume()
        self._validation = self._read_validation()

    def train(self, stop_after_s: float | None = None) -> None:
        """Run to the recipe's last step, or save and stop after so many seconds."""
        place = self._progress.place
        block = self._model.config.block_size
        batches = Batches(self._folder, self._config.data, block, place)
        began = time.monotonic()
        saved = self._progress.step
        try:
            while self._progress.step < self._run.steps:
                self._step(batches)
                step = self._progress.step
                late = stop_after_s and time.monotonic() - began > stop_after_s
                if step % self._run.save_every == 0 or late:
                    self._save()
                    saved = step
                if late:
                    self._say(f"stopped at step {step}; run again to go on")
                    return
        except KeyboardInterrupt:
            if saved != self._progress.step:
                self._save()
            self._say(f"interrupted and saved at step {self._progress.step}")
            raise
        finally:
            batches.close()
        if saved != self._progress.step:
            self._save()
        self._finish()

    def _step(self, batches: Batches) -> None:
        """One optimiser step, its log line, and validation when it is due."""
        began = time.monotonic()
        step = self._progress.step
        rows = batches.next(self._rows_a_step)
        loss = self._gradients(rows)
        clip_gradients(self._model, self._config.optim.grad_clip)
        scale = learning_rate_scale(step, self._run)
        self._optimizers.step(scale)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {step}; lower the learning rates or "
                f"resume from {self._out} with another seed"
            )
        took = time.monotonic() - began
        tokens = rows.shape[0] * (rows.shape[1] - 1)
        self._progress = Progress(
            step=step + 1,
            place=batches.place,
            seconds=self._progress.seconds + took,
            tokens=self._progress.tokens + tokens,
        )
        self._report(loss, scale, tokens / took)

    def _gradients(self, rows: Rows) -> float:
        """Leave the gradient of the mean loss of all processes' rows; returns it."""
        mine = rows[self._processes.rank :: self._processes.count]
        inputs, targets = targets_of(rows, self._tokenizer.end)
        counted = int((targets >= 0).sum())
        total = torch.zeros((), device=self._processes.device)
        micro = list(micro_batches(mine, self._run.micro_rows))
        for i, part in enumerate(micro):
            with self._synced_on(i == len(micro) - 1), self._autocast():
                inputs, targets = targets_of(part, self._tokenizer.end)
                loss = self._loss(self._tensor(inputs), self._tensor(targets))
            # DDP averages gradients over processes; the loss is a sum over all rows
            (loss * (self._processes.count / counted)).backward()
            total += loss.detach()
        if self._processes.count > 1:
            dist.all_reduce(total)
        return float(total) / counted

    def _report(self, loss: float, scale: float, speed: float) -> None:
        step = self._progress.step
        bpb = None
        if step % self._run.eval_every == 0 or step == self._run.steps:
            bpb = self.validate()
        if not self._processes.leads or (step % self._run.log_every and bpb is None):
            return
        Log(self._out).write(
            step=step,
            tokens=self._progress.tokens,
            seconds=self._progress.seconds,
            loss=loss,
            val_bpb=bpb,
            lr=scale,
            tokens_per_s=speed,
        )
        said = f"step {step}/{self._run.steps} loss {loss:.4f} {speed:,.0f} tokens/s"
        self._say(said + (f" val {bpb:.4f} bits/byte" if bpb else ""))

    @torch.no_grad()
    def validate(self) -> float:
        """Bits per byte of the validation rows, by this process alone."""
        lengths = np.array([len(b) for b in self._tokenizer.token_bytes()])
        nats, count = 0.0, 0
        self._model.eval()
        for rows in micro_batches(self._validation, self._run.micro_rows):
            inputs, targets = targets_of(rows, self._tokenizer.end)
            with self._autocast():
                hidden = self._model.hidden(self._tensor(inputs))
            head = self._model.embed.weight
            nats += float(head_cross_entropy(hidden, head, self._tensor(targets)))
            count += int(lengths[targets[targets >= 0]].sum())
        self._model.train()
        return nats / math.log(2) / count

    def _shape(self) -> ModelConfig:
        shape = attrs.asdict(self._config.model)
        # a multiple of 64 keeps the head's matrix product on its fast path
        vocab = -(-self._tokenizer.vocab_size // 64) * 64
        try:
            return ModelConfig(vocab_size=vocab, **shape)
        except ConfigError as error:
            raise TrainingError(f"[model] {error}") from error

    def _count_rows(self) -> int:
        """Rows in a step over all processes, from tokens."""
        run, block = self._run, self._config.model.block_size
        rows, rest = divmod(run.batch_tokens, block)
        if rest or rows % self._processes.count:
            raise TrainingError(
                f"batch_tokens must be a multiple of block_size {block} times "
                f"{self._processes.count} processes, got {run.batch_tokens}"
            )
        return rows

    def _resume(self) -> Progress:
        found = steps_on_disk(self._out)
        if not found:
            self._out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._config.to_json(), indent=2)
            (self._out / "config.json").write_text(text)
            count = sum(p.numel() for p in self._model.parameters())
            self._say(f"training {count / 1e6:.2f}M parameters from scratch")
            return Progress()
        progress = load_run(found[-1], self._model, self._optimizers)
        self._say(f"resuming from {found[-1]}")
        return progress

    def _read_validation(self) -> Rows:
        documents = Documents(self._folder, "val", self._tokenizer)
        block = self._model.config.block_size
        return plain_rows(documents, self._tokenizer, block, self._run.eval_rows)

    def _wrap(self, loss: nn.Module) -> nn.Module:
        if self._run.compile:
            loss.compile()
        if self._processes.count > 1:
            return DistributedDataParallel(loss)
        return loss

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        dtype = getattr(torch, self._run.dtype)
        if dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self._processes.device.type, dtype)

    def _synced_on(self, last: bool) -> contextlib.AbstractContextManager[None]:
        if last or not isinstance(self._loss, DistributedDataParallel):
            return contextlib.nullcontext()
        quiet: contextlib.AbstractContextManager[None] = self._loss.no_sync()
        return quiet

    def _tensor(self, array: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self._processes.device, non_blocking=True)

    def _save(self) -> None:
        if self._processes.leads:
            provenance = {
                "recipe": self._config.to_json(),
                "step": self._progress.step,
                "tokens": self._progress.tokens,
                "train_seconds": round(self._progress.seconds),
                "device": str(self._processes.device),
            }
            save_run(
                self._out,
                self._progress,
                self._model,
                self._tokenizer,
                self._optimizers,
                provenance,
            )
        if self._processes.count > 1:
            dist.barrier()

    def _finish(self) -> None:
        if self._processes.leads:
            self._say(f"done; curves in {draw_losses(self._out)}")

    def _say(self, text: str) -> None:
        if self._processes.leads:
            print(text, flush=True)

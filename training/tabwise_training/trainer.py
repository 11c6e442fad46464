"""One training run: model, optimisers and data, from its newest checkpoint on."""

from __future__ import annotations

import contextlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tabwise_model.config import ConfigError, ModelConfig
from tabwise_model.gpt import GPT
from tabwise_model.tokenizer import Tokenizer
from tabwise_training.config import TrainConfig
from tabwise_training.data import (
    Batches,
    Documents,
    Rows,
    data_order,
    micro_batches,
    plain_rows,
    targets_of,
)
from tabwise_training.destination import writing
from tabwise_training.errors import TrainingError
from tabwise_training.initialise import initial_model
from tabwise_training.loss import Teacher, head_cross_entropy, plain_softmax_loss
from tabwise_training.memory import check_memory
from tabwise_training.optim import Optimizers, clip_gradients, learning_rate_scale
from tabwise_training.prepare import load_tokenizer
from tabwise_training.processes import Processes
from tabwise_training.run_state import (
    Log,
    Progress,
    draw_losses,
    load_run,
    save_run,
    steps_on_disk,
)
from tabwise_training.samples import print_samples
from tabwise_training.throughput import flops_per_token, measure_matrix_rate


class SummedLoss(nn.Module):
    """The model as DDP wraps it: rows in, summed loss in nats out."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model
        self.hidden = model.hidden
        self.softmax_loss = plain_softmax_loss

    def compile(self, *args: Any, **options: Any) -> None:
        """The model and what the head computes, each by itself."""
        self.hidden = torch.compile(self.model.hidden, *args, **options)
        self.softmax_loss = torch.compile(plain_softmax_loss, *args, **options)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.of_hidden(self.hidden(inputs), targets)

    def of_hidden(
        self, hidden: Tensor, targets: Tensor, teacher: Teacher | None = None
    ) -> Tensor:
        head = self.model.embed.weight
        return head_cross_entropy(
            hidden, head, targets, teacher=teacher, softmax_loss=self.softmax_loss
        )


MakeLoss = Callable[[GPT], nn.Module]


class Trainer:
    """A run of a recipe. Set `stopping` to end it, saved, after the current step.

    make_loss: what is minimised, called as a `SummedLoss`. story: what its checkpoints
    say besides of how they came about.
    """

    def __init__(
        self,
        config: TrainConfig,
        processes: Processes,
        make_loss: MakeLoss = SummedLoss,
        story: Mapping[str, Any] | None = None,
    ) -> None:
        self.stopping = False
        self._story = story or {}
        self._config = config
        self._processes = processes
        self._run = config.run
        if self._run.threads:
            torch.set_num_threads(self._run.threads)
        torch.manual_seed(self._run.seed)
        self._dtype: torch.dtype = getattr(torch, self._run.dtype)
        self._out = Path(self._run.out)
        self._folder = Path(config.data.folder)
        self._rows_a_step = self._count_rows()
        self._tokenizer = load_tokenizer(self._folder)
        shape = self.shape_of(config, self._tokenizer)
        check_memory(config, shape, processes.device)
        self._model = initial_model(self._run.init_from, shape, self._tokenizer).to(
            processes.device
        )
        self._loss = self._wrap(make_loss(self._model))
        self._optimizers = Optimizers(self._model, config.optim)
        # float16 gradients underflow without it; elsewhere it does nothing
        self._scaler = torch.amp.GradScaler(
            processes.device.type, enabled=self._dtype == torch.float16
        )
        self._order = data_order(self._folder, config.data)
        self._progress = self._resume()
        self._validation = self._read_validation()
        step = self._progress.step
        self._log = Log(self._out, step) if processes.leads else None
        self._rate = processes.count * measure_matrix_rate(
            processes.device, self._dtype
        )

    def train(self, stop_after_s: float | None = None) -> bool:
        """Run to the recipe's last step, or save and stop early when told to or after
        so many seconds; returns whether the run is finished."""
        batches = self._open_batches()
        began = time.monotonic()
        try:
            while self._progress.step < self._run.steps:
                self._step(batches)
                late = stop_after_s and time.monotonic() - began > stop_after_s
                stop = self._processes.any(bool(late) or self.stopping)
                step = self._progress.step
                if stop or step % self._run.save_every == 0 or step == self._run.steps:
                    self._save()
                if stop and step < self._run.steps:
                    self._say(f"stopped and saved at step {step}; run again to go on")
                    return False
        finally:
            batches.close()
        if self._processes.leads:
            self._say(f"done; curves in {draw_losses(self._out)}")
        return True

    @contextlib.contextmanager
    def stepper(self) -> Iterator[Callable[[], float]]:
        """For measuring: a function that takes one step and returns the seconds that it
        waited for data."""
        batches = self._open_batches()
        try:
            yield lambda: self._step(batches)
        finally:
            batches.close()

    def _open_batches(self) -> Batches:
        block = self._model.config.block_size
        return Batches(self._folder, self._config.data, block, self._progress.place)

    def _step(self, batches: Batches) -> float:
        """One optimiser step, its log line, and validation when it is due; returns the
        seconds that it waited for data."""
        began = time.monotonic()
        step = self._progress.step
        rows = batches.next(self._rows_a_step)
        waited = time.monotonic() - began
        if self._model.config.dropout:
            torch.manual_seed(step_seed(self._run.seed, step, self._processes.rank))
        loss = self._gradients(rows)
        self._check_finite("loss", loss)
        scale = learning_rate_scale(step, self._run)
        self._optimizers.unscale(self._scaler)
        norm = clip_gradients(self._model, self._config.optim.grad_clip)
        if not self._scaler.is_enabled():  # which leaves such an update out
            self._check_finite("gradient", norm)
        if norm == 0:
            raise TrainingError(
                f"every gradient is zero at step {step}, so that nothing is learned: "
                "try --run.compile false, or another version of torch"
            )
        self._optimizers.step(scale, self._scaler, norm)
        took = time.monotonic() - began
        tokens = rows.shape[0] * (rows.shape[1] - 1)
        self._progress = Progress(
            step=step + 1,
            place=batches.place,
            seconds=self._progress.seconds + took,
            tokens=self._progress.tokens + tokens,
            scaler=self._scaler.state_dict(),
        )
        self._report(loss, scale, tokens / took, waited / took)
        return waited

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} is {value} at step {self._progress.step}; lower the "
                f"learning rates, then run again to go on from {self._out}"
            )

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
                # DDP averages gradients over processes; this loss is a sum over rows
                mean = loss * (self._processes.count / counted)
                self._scaler.scale(mean).backward()
            total += loss.detach()
        return float(self._processes.sum(total)) / counted

    def _report(self, loss: float, scale: float, speed: float, waited: float) -> None:
        step = self._progress.step
        due = step % self._run.eval_every == 0 or step == self._run.steps
        bpb = self.validate() if due else None
        if self._log is None or (step % self._run.log_every and bpb is None):
            return
        used = speed * flops_per_token(self._model) / self._rate
        self._log.write(
            step=step,
            tokens=self._progress.tokens,
            seconds=self._progress.seconds,
            loss=loss,
            val_bpb=bpb,
            lr=scale,
            tokens_per_s=speed,
            mfu=used,
            data_wait=waited,
        )
        said = f"step {step}/{self._run.steps} loss {loss:.4f} {speed:,.0f} tokens/s"
        said += f" MFU {used:.0%}"
        self._say(said + (f" val {bpb:.4f} bits/byte" if bpb else ""))
        if bpb:
            print_samples(self._model, self._tokenizer, self._validation)

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

    @staticmethod
    def shape_of(config: TrainConfig, tokenizer: Tokenizer) -> ModelConfig:
        """The recipe's model over this vocabulary. Raises TrainingError."""
        shape = attrs.asdict(config.model)
        # a multiple of 64 keeps the head's matrix product on its fast path
        vocab = -(-tokenizer.vocab_size // 64) * 64
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
            text = json.dumps(self._config.to_json(), indent=2)
            with writing(self._out, "run.out"):
                self._out.mkdir(parents=True, exist_ok=True)
                (self._out / "config.json").write_text(text)
            count = sum(p.numel() for p in self._model.parameters())
            source = self._run.init_from
            self._say(f"training {count / 1e6:.2f}M parameters from {source}")
            return Progress()
        progress = load_run(
            found[-1], self._model, self._tokenizer, self._optimizers, self._order
        )
        if progress.scaler:
            self._scaler.load_state_dict(dict(progress.scaler))
        self._say(f"resuming from {found[-1]}")
        return progress

    def _read_validation(self) -> Rows:
        documents = Documents(self._folder, "val", self._tokenizer)
        block = self._model.config.block_size
        rows = plain_rows(documents, self._tokenizer, block, self._run.eval_rows)
        if not len(rows):
            raise TrainingError(
                f"{self._folder}/val.bin has {len(documents.tokens)} tokens, but must "
                f"have a row of block_size + 1 = {block + 1}; add text to validate on"
            )
        return rows

    def _wrap(self, loss: nn.Module) -> nn.Module:
        if self._run.compile:
            loss.compile()
        if self._processes.count > 1:
            return DistributedDataParallel(loss)
        return loss

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        if self._dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self._processes.device.type, self._dtype)

    def _synced_on(self, last: bool) -> contextlib.AbstractContextManager[None]:
        if last or not isinstance(self._loss, DistributedDataParallel):
            return contextlib.nullcontext()
        quiet: contextlib.AbstractContextManager[None] = self._loss.no_sync()
        return quiet

    def _tensor(self, array: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self._processes.device, non_blocking=True)

    def _save(self) -> None:
        if self._processes.leads:
            save_run(
                self._out,
                self._progress,
                self._model,
                self._tokenizer,
                self._optimizers,
                self._provenance(),
                self._order,
            )
        self._processes.wait()

    def _provenance(self) -> Mapping[str, Any]:
        device = self._processes.device
        name = platform.processor() or platform.machine()
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
        return {
            "recipe": self._config.to_json(),
            "step": self._progress.step,
            "tokens": self._progress.tokens,
            "train_seconds": round(self._progress.seconds),
            "device": f"{self._processes.count} x {device.type} ({name})",
            **self._story,
        }

    def _say(self, text: str) -> None:
        if self._processes.leads:
            print(text, flush=True)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Of dropout's masks, by which a resumed step draws those that it would have drawn,
    and each process others."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])

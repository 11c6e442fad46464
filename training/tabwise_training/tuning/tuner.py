"""Tuning itself: all weights, own code mixed with general code, held to its minutes.

Own code is learned token by token; of general code, the tuned model is to expect what
the first one did, which asks for nothing where nothing was forgotten. The learning rate
falls to zero at the end of the time, whatever the machine's speed. On the way the
weights are judged on files kept for it; the best are kept, mixed with the first ones
until little is forgotten.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import torch
from torch.optim import AdamW
from tqdm import tqdm

from tabwise_model.gpt import GPT
from tabwise_model.tokenizer import Tokenizer
from tabwise_training.data import Rows, micro_batches, targets_of
from tabwise_training.errors import TrainingError
from tabwise_training.loss import Teacher, head_cross_entropy
from tabwise_training.optim import clip_gradients
from tabwise_training.throughput import measure_matrix_rate
from tabwise_training.tuning.rows import take

Tensors = Mapping[str, Any]
# How much of what may be lost is, by the files to choose by: others have lost twice it.
CAUTION = 0.4
MICRO_ROWS = 4
HALVINGS = 4  # of the search for the share of the tuned weights that is kept


@attrs.frozen(kw_only=True)
class TuneOptions:
    """max_seconds and max_steps bound the training, whichever comes first; lr is its
    peak; checks: how often the weights are judged; max_loss: of general code, as a
    share of its bits per byte."""

    max_seconds: float = 900.0
    max_steps: int | None = None
    rows: int = 16
    replay_share: float = 0.5
    lr: float = 2e-4
    warmup: float = 0.03
    checks: int = 8
    max_loss: float = 0.02
    seed: int = 1


@attrs.frozen
class Judged:
    """Bits per byte of the files to choose by: one's own, and general ones."""

    own: float
    general: float


Judge = Callable[[], float]


@attrs.frozen
class Judges:
    """Bits per byte of the model as it stands, in each kind of file."""

    own: Judge
    general: Judge

    def both(self) -> Judged:
        return Judged(self.own(), self.general())


class Tuner:
    """Trains a model in place; `best` is what it found."""

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        own: Iterator[Rows],
        replay: Iterator[Rows],
        options: TuneOptions,
    ) -> None:
        self._model = model
        self._first = copy.deepcopy(model).requires_grad_(requires_grad=False)
        self._first.eval()
        self._end = tokenizer.end
        self._own, self._replay = own, replay
        self._options = options
        self._dtype = faster_dtype()
        # Muon moves every direction of a matrix alike, and so the few that new code
        # asks for together with all that hold what was learned; see docs/tuning.md
        self._optimizer = AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
        self.steps = 0
        self.tokens = 0

    def train(self, judges: Judges) -> tuple[Judged, Judged]:
        """Train until time or steps are used up, and leave the best weights found in
        the model; returns what is thought of the first weights and of these."""
        first = self._model.to_tensors()
        before = judges.both()
        best, kept = before.own, first
        began = time.monotonic()
        check = 1
        with tqdm(total=100, desc="tuning", unit="%", disable=None) as bar:
            while (done := self._done(began)) < 1:
                self._step(done)
                bar.update(min(100, round(100 * self._done(began))) - bar.n)
                if self._done(began) * self._options.checks >= check:
                    check = int(self._done(began) * self._options.checks) + 1
                    if (own := judges.own()) < best:
                        best, kept = own, self._model.to_tensors()
        limit = before.general * (1 + CAUTION * self._options.max_loss)
        self._blend(first, kept, lambda: judges.general() <= limit)
        return before, judges.both()

    def _blend(
        self, first: Tensors, tuned: Tensors, allowed: Callable[[], bool]
    ) -> None:
        """Leave as much of the tuning in the model as general code allows.

        Source: averaging of fine-tuned and first weights, arXiv 2109.01903.
        """

        def mix(share: float) -> None:
            self._model.load_tensors(
                {k: (1 - share) * v + share * tuned[k] for k, v in first.items()}
            )

        mix(1.0)
        if allowed():
            return
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            share = (low + high) / 2
            mix(share)
            low, high = (share, high) if allowed() else (low, share)
        mix(low)

    def _done(self, began: float) -> float:
        """Share of the time, or of the steps, that is used up."""
        spent = (time.monotonic() - began) / self._options.max_seconds
        if self._options.max_steps is None:
            return spent
        return max(spent, self.steps / self._options.max_steps)

    def _step(self, done: float) -> None:
        options = self._options
        replayed = int(options.replay_share * options.rows)
        own = take(self._own, options.rows - replayed)
        replay = take(self._replay, replayed) if replayed else own[:0]
        counted = sum(
            int((targets_of(rows, self._end)[1] >= 0).sum()) for rows in (own, replay)
        )
        for rows, teacher in ((own, None), (replay, self._first)):
            for part in micro_batches(rows, MICRO_ROWS):
                loss = rows_loss(self._model, part, self._end, self._dtype, teacher)
                if not math.isfinite(float(loss.detach())):
                    raise TrainingError("the loss is not finite; lower --lr")
                torch.autograd.backward(loss / counted)
        clip_gradients(self._model, 1.0)
        scale = min(1.0, done / options.warmup + 0.1) * max(0.02, 1 - done)
        for group in self._optimizer.param_groups:
            group["lr"] = options.lr * scale
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.steps += 1
        self.tokens += counted


def rows_loss(
    model: GPT, rows: Rows, end: int, dtype: torch.dtype, teacher: GPT | None = None
) -> torch.Tensor:
    """Summed loss of rows in nats, padding left out.

    teacher: whose expectations are to be met, in place of the tokens that follow.
    """
    inputs, targets = targets_of(rows, end)
    ids = torch.from_numpy(inputs)
    cast = torch.autocast("cpu", dtype) if dtype != torch.float32 else None
    with cast or contextlib.nullcontext():
        expected = None
        if teacher is not None:
            with torch.no_grad():
                expected = Teacher(teacher.hidden(ids), teacher.embed.weight, 1.0)
        return head_cross_entropy(
            model.hidden(ids),
            model.embed.weight,
            torch.from_numpy(targets),
            teacher=expected,
        )


@torch.no_grad()
def rows_bits_per_byte(model: GPT, tokenizer: Tokenizer, rows: Rows) -> float:
    """Bits per byte of plain rows, in float32, without dropout."""
    lengths = np.array([len(b) for b in tokenizer.token_bytes()])
    nats, count = 0.0, 0
    with _evaluating(model):
        for part in micro_batches(rows, 8):
            nats += float(rows_loss(model, part, tokenizer.end, torch.float32))
            targets = targets_of(part, tokenizer.end)[1]
            count += int(lengths[targets[targets >= 0]].sum())
    return nats / math.log(2) / max(1, count)


@contextlib.contextmanager
def _evaluating(model: GPT) -> Iterator[None]:
    """The model without dropout, as it was afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def faster_dtype() -> torch.dtype:
    """The type in which this CPU multiplies large matrices faster by half at least."""
    cpu = torch.device("cpu")
    plain = measure_matrix_rate(cpu, torch.float32)
    if measure_matrix_rate(cpu, torch.bfloat16) > 1.5 * plain:
        return torch.bfloat16
    return torch.float32

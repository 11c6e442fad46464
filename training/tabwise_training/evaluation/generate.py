"""Completions of many positions through the engine, as the backend makes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
from tqdm import tqdm

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.copying import Remembered
from tabwise_model.engine import Engine
from tabwise_model.infill import Hole, Infiller, Wanted
from tabwise_model.request import Generation, Stop
from tabwise_model.runners.protocol import Runner


@attrs.frozen
class Completion:
    """A completion and its probability: of the very line where one was searched,
    else exp of its mean log-probability (0 for an empty one)."""

    text: str
    confidence: float


class Completer:
    """One engine over a runner; what it computed for one call serves the next."""

    def __init__(
        self,
        runner: Runner,
        checkpoint: Checkpoint,
        *,
        max_new_tokens: int = 48,
        stop: Stop = Stop.LINE,
        width: int = 4,
        copying: bool = True,
    ) -> None:
        self._engine = Engine(runner, checkpoint.tokenizer, prefill_chunk=512)
        self._slots = runner.n_slots
        window = min(runner.slot_tokens, checkpoint.config.block_size)
        self._infiller = Infiller(checkpoint.tokenizer, window)
        self._remembered = checkpoint.remembered
        self._wanted = Wanted(
            max_new_tokens=max_new_tokens,
            stop=stop,
            width=min(width, runner.n_slots),
            copying=copying,
        )

    def complete(
        self,
        holes: Sequence[tuple[str, str]],
        *,
        indents: Sequence[int] | None = None,
        label: str | None = None,
    ) -> list[Completion]:
        """Greedy completions of (prefix, suffix) holes, in their order.

        indents: columns of each cursor's line, for Stop.BLOCK. label: of a progress
        bar, None for none.
        """
        columns = indents or [0] * len(holes)
        asked = [
            (Hole(prefix=prefix, suffix=suffix, indent=indent), self._wanted)
            for (prefix, suffix), indent in zip(holes, columns, strict=True)
        ]
        return self.answer(asked, label=label)

    def answer(
        self,
        asked: Sequence[tuple[Hole, Wanted]],
        *,
        remembered: Sequence[Remembered] = (),
        label: str | None = None,
    ) -> list[Completion]:
        """The completion of each, in their order. remembered: a repository for each, in
        place of the one that the checkpoint brings along."""
        found: dict[str, Completion] = {}
        waiting = list(range(len(asked)))[::-1]
        hidden = True if label is None else None
        with tqdm(total=len(asked), desc=label, disable=hidden) as progress:
            while waiting or self._engine.has_work:
                while waiting and self._engine.queued < self._slots:
                    index = waiting.pop()
                    held = remembered[index] if remembered else self._remembered
                    request = self._infiller.request(
                        str(index), *asked[index], remembered=held
                    )
                    self._engine.submit(request)
                for result in self._engine.step():
                    found[result.id] = _completion(result)
                    progress.update()
        return [found[str(index)] for index in range(len(asked))]


def complete_all(
    runner: Runner,
    checkpoint: Checkpoint,
    holes: Sequence[tuple[str, str]],
    *,
    max_new_tokens: int = 48,
    label: str = "",
) -> list[Completion]:
    """Greedy one-line completions of (prefix, suffix) holes, in their order."""
    completer = Completer(runner, checkpoint, max_new_tokens=max_new_tokens)
    return completer.complete(holes, label=label)


def _completion(result: Generation) -> Completion:
    if not result.tokens:
        return Completion("", 0.0)
    text = result.text.decode("utf-8", errors="ignore")
    if result.probability is not None:
        return Completion(text, result.probability)
    mean = sum(result.logprobs) / len(result.logprobs)
    return Completion(text, math.exp(mean))

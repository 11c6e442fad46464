"""Completions of many positions through the engine, as the backend makes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
from tqdm import tqdm

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.engine import Engine
from tabwise_model.prompt import fim_prompt
from tabwise_model.request import Generation, GenerationRequest, Stop
from tabwise_model.runners.protocol import Runner


@attrs.frozen
class Completion:
    """A completion's text, and exp of its mean log-probability (0 for an empty one)."""

    text: str
    confidence: float


def complete_all(
    runner: Runner,
    checkpoint: Checkpoint,
    holes: Sequence[tuple[str, str]],
    *,
    max_new_tokens: int = 48,
    label: str = "",
) -> list[Completion]:
    """Greedy one-line completions of (prefix, suffix) holes, in their order."""
    engine = Engine(runner, checkpoint.tokenizer, prefill_chunk=512)
    window = min(runner.slot_tokens, checkpoint.config.block_size) - max_new_tokens
    found: dict[str, Completion] = {}
    waiting = list(enumerate(holes))[::-1]
    with tqdm(total=len(holes), desc=label, disable=None) as progress:
        while waiting or engine.has_work:
            while waiting and engine.queued < runner.n_slots:
                index, (prefix, suffix) = waiting.pop()
                prompt = fim_prompt(checkpoint.tokenizer, prefix, suffix, window=window)
                engine.submit(
                    GenerationRequest(
                        id=str(index),
                        prompt=prompt.ids,
                        heal=prompt.heal,
                        max_new_tokens=max_new_tokens,
                        stop=Stop.LINE,
                    )
                )
            for result in engine.step():
                found[result.id] = _completion(result)
                progress.update()
    return [found[str(index)] for index in range(len(holes))]


def _completion(result: Generation) -> Completion:
    if not result.tokens:
        return Completion("", 0.0)
    mean = sum(result.logprobs) / len(result.logprobs)
    text = result.text.decode("utf-8", errors="ignore")
    return Completion(text, math.exp(mean))

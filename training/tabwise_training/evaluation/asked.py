"""Requests as the language server makes them, completed by the engine as the backend
does it, without HTTP between."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tqdm import tqdm

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.engine import Engine
from tabwise_model.infill import Hole, Infiller, Wanted
from tabwise_model.request import Generation, GenerationRequest, Stop
from tabwise_model.runners.protocol import Runner
from tabwise_server.wire import CompletionRequest
from tabwise_training.evaluation.generate import Completion


def answer_all(
    runner: Runner,
    checkpoint: Checkpoint,
    requests: Sequence[CompletionRequest],
    *,
    label: str,
) -> list[Completion]:
    """The completions of `requests`, in their order. label: of the progress bar."""
    engine = Engine(runner, checkpoint.tokenizer, prefill_chunk=512)
    window = min(runner.slot_tokens, checkpoint.config.block_size)
    infiller = Infiller(checkpoint.tokenizer, window)
    found: dict[str, Completion] = {}
    waiting = list(range(len(requests)))[::-1]
    with tqdm(total=len(requests), desc=label) as progress:
        while waiting or engine.has_work:
            while waiting and engine.queued < runner.n_slots:
                number = waiting.pop()
                asked = _generation(infiller, str(number), requests[number])
                engine.submit(asked)
            for result in engine.step():
                found[result.id] = _completion(result)
                progress.update()
    return [found[str(number)] for number in range(len(requests))]


def _generation(
    infiller: Infiller, name: str, request: CompletionRequest
) -> GenerationRequest:
    hole = Hole(
        prefix=request.prefix,
        suffix=request.suffix,
        context=[(chunk.path, chunk.text) for chunk in request.context],
        indent=_indent(request.prefix),
    )
    wanted = Wanted(
        max_new_tokens=request.max_new_tokens, stop=Stop[request.stop.upper()]
    )
    return infiller.request(name, hole, wanted)


def _indent(prefix: str) -> int:
    """Columns of the cursor's line."""
    line = prefix[prefix.rfind("\n") + 1 :].expandtabs(8)
    return len(line) - len(line.lstrip())


def _completion(result: Generation) -> Completion:
    if not result.tokens:
        return Completion("", 0.0)
    text = result.text.decode("utf-8", errors="ignore")
    if result.probability is not None:
        return Completion(text, result.probability)
    return Completion(text, math.exp(sum(result.logprobs) / len(result.logprobs)))

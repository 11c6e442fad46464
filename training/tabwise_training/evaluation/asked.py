"""Requests as the language server makes them, completed by the engine as the backend
does it, without HTTP between."""

from __future__ import annotations

from collections.abc import Sequence

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.infill import Hole, Wanted
from tabwise_model.request import Stop
from tabwise_model.runners.protocol import Runner
from tabwise_server.suggest.place import indent_of
from tabwise_server.wire import CompletionRequest
from tabwise_training.evaluation.generate import Completer, Completion

TAB_COLUMNS = 8


def answer_all(
    runner: Runner,
    checkpoint: Checkpoint,
    requests: Sequence[CompletionRequest],
    *,
    label: str,
) -> list[Completion]:
    """The completions of `requests`, in their order. label: of the progress bar."""
    asked = [(_hole(request), _wanted(request)) for request in requests]
    return Completer(runner, checkpoint).answer(asked, label=label)


def _hole(request: CompletionRequest) -> Hole:
    line = request.prefix[request.prefix.rfind("\n") + 1 :]
    return Hole(
        prefix=request.prefix,
        suffix=request.suffix,
        context=[(chunk.path, chunk.text) for chunk in request.context],
        indent=len(indent_of(line).expandtabs(TAB_COLUMNS)),
    )


def _wanted(request: CompletionRequest) -> Wanted:
    return Wanted(max_new_tokens=request.max_new_tokens, stop=Stop(request.stop))

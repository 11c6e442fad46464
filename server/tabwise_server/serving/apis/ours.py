"""Our own route, and the seed's: read, delegate, answer."""

from __future__ import annotations

import os
import time

from aiohttp import web

from tabwise_model.infill import Hole, Wanted
from tabwise_model.request import Generation, Line, Sampling, Stop
from tabwise_server.errors import BadRequest
from tabwise_server.serving.admission.receiving import a_place, read_json
from tabwise_server.serving.apis.text import decode_whole
from tabwise_server.serving.app_keys import SERVICE, SETTINGS
from tabwise_server.serving.question import Question, Workspace
from tabwise_server.wire import (
    Alternative,
    CodeRequest,
    CodeResponse,
    CompletionRequest,
    CompletionResponse,
    Timings,
    structure,
    unstructure,
)

TAB_COLUMNS = 8


def add_ours(app: web.Application) -> None:
    app.router.add_post("/v1/tabwise/complete", complete)
    app.router.add_post("/complete", complete_code)


async def complete(request: web.Request) -> web.Response:
    """POST /v1/tabwise/complete"""
    with a_place(request) as ticket:
        wanted = structure(CompletionRequest, await read_json(request))
        if wanted.workspace is not None and not request.app[SETTINGS].daemon:
            raise BadRequest(
                "workspace is for the shared daemon on the user's own machine; this "
                "server reads no folders. Leave it out",
                field="workspace",
            )
        service = request.app[SERVICE]
        result = await service.answer(
            question_of(wanted), ticket.until(wanted.deadline_ms, wanted.session)
        )
        answer = _response(result, wanted, service.checkpoint.name, ticket.received)
        return web.json_response(unstructure(answer))


async def complete_code(request: web.Request) -> web.Response:
    """POST /complete: `code` continued left to right."""
    with a_place(request) as ticket:
        wanted = structure(CodeRequest, await read_json(request))
        if not wanted.code:
            raise BadRequest("code must not be empty", field="code")
        sampling = Sampling(temperature=wanted.temperature, top_k=wanted.top_k)
        how = Wanted(max_new_tokens=wanted.max_tokens, sampling=sampling)
        question = Question(about=wanted.code, wanted=how)
        result = await request.app[SERVICE].answer(question, ticket.asker)
        answer = CodeResponse(
            completion=decode_whole(result.text),
            tokens=len(result.tokens),
            latency_ms=_milliseconds(time.monotonic() - ticket.received),
        )
        return web.json_response(unstructure(answer))


def question_of(request: CompletionRequest) -> Question:
    """Fill in between prefix and suffix."""
    return Question(
        about=Hole(
            prefix=request.prefix,
            suffix=request.suffix,
            context=tuple((chunk.path, chunk.text) for chunk in request.context),
            indent=indent_columns(request.prefix),
        ),
        wanted=Wanted(
            max_new_tokens=request.max_new_tokens,
            stop=Stop(request.stop),
            sampling=Sampling(
                temperature=request.temperature,
                top_k=request.top_k,
                seed=request.seed,
            ),
            min_probability=request.min_confidence,
            min_part_probability=request.min_part_confidence,
        ),
        workspace=_workspace_of(request),
    )


def _workspace_of(request: CompletionRequest) -> Workspace | None:
    asked = request.workspace
    if asked is None:
        return None
    if not os.path.isabs(asked.folder):
        raise BadRequest(
            f"workspace.folder must be an absolute path, got {asked.folder!r}",
            field="workspace.folder",
        )
    return Workspace(folder=asked.folder, unread=tuple(asked.unread), path=request.path)


def _response(
    result: Generation, request: CompletionRequest, model: str, received: float
) -> CompletionResponse:
    logprobs = result.logprobs or [0.0]
    known = {} if result.probability is None else {"confidence": result.probability}
    others = result.alternatives[: request.candidates - 1]
    return CompletionResponse(
        **known,
        alternatives=[_other(line) for line in others],
        text=decode_whole(result.text),
        finish=result.finish.value,  # type: ignore[arg-type]
        tokens=len(result.tokens),
        mean_logprob=sum(logprobs) / len(logprobs),
        min_logprob=min(logprobs),
        prompt_tokens=result.prompt_tokens,
        cached_tokens=result.cached_tokens,
        model=model,
        timings=Timings(
            queue_ms=_milliseconds(result.queue_s),
            prefill_ms=_milliseconds(result.prefill_s),
            decode_ms=_milliseconds(result.decode_s),
            latency_ms=_milliseconds(time.monotonic() - received),
        ),
    )


def _other(line: Line) -> Alternative:
    logprobs = line.logprobs or [0.0]
    return Alternative(
        text=decode_whole(line.text),
        finish=line.finish.value,  # type: ignore[arg-type]
        tokens=len(line.tokens),
        mean_logprob=sum(logprobs) / len(logprobs),
        min_logprob=min(logprobs),
        confidence=line.probability,
    )


def indent_columns(prefix: str) -> int:
    """Columns of indentation of the cursor's line."""
    line = prefix[prefix.rfind("\n") + 1 :]
    blank = line[: len(line) - len(line.lstrip(" \t"))]
    return len(blank.expandtabs(TAB_COLUMNS))


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)

"""OpenAI's /v1/completions and /v1/models, as far as editors and their libraries use
them. A prompt in our own fill-in-the-middle form counts as prefix and suffix.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
from aiohttp import web

from tabwise_model.infill import Hole, Wanted
from tabwise_model.request import Finish, Generation, Progress, Sampling, Stop
from tabwise_model.tokenizer import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX
from tabwise_server.errors import BadRequest
from tabwise_server.serving.admission.receiving import a_place, read_json
from tabwise_server.serving.apis.fields import (
    Body,
    as_body,
    flag_of,
    new_tokens_of,
    number_of,
    sampling_of,
    stops_of,
    text_of,
    whole_of,
)
from tabwise_server.serving.apis.streaming import answer_events
from tabwise_server.serving.app_keys import SERVICE
from tabwise_server.serving.service import CompletionService, decode_whole

MAX_CHOICES = 4
SESSION_HEADER = "X-Tabwise-Session"
FINISH: Mapping[Finish, str] = MappingProxyType({Finish.LENGTH: "length"})
_PREFIX_FIRST = re.compile(
    re.escape(FIM_PREFIX)
    + "(?P<prefix>.+?)"
    + re.escape(FIM_SUFFIX)
    + "(?P<suffix>.*)"
    + re.escape(FIM_MIDDLE),
    re.DOTALL,
)
_SUFFIX_FIRST = re.compile(
    re.escape(FIM_PREFIX + FIM_SUFFIX)
    + "(?P<suffix>.*)"
    + re.escape(FIM_MIDDLE)
    + "(?P<prefix>.*)",
    re.DOTALL,
)

Progressing = Callable[[Progress], None] | None


@attrs.frozen(kw_only=True)
class Asked:
    """A request as it will be served. suffix None: plain continuation."""

    prefix: str
    suffix: str | None
    max_tokens: int
    sampling: Sampling
    stops: tuple[bytes, ...]
    choices: int
    stream: bool
    stream_usage: bool
    logprobs: bool
    session: str | None


def add_openai(app: web.Application) -> None:
    app.router.add_post("/v1/completions", completions)
    app.router.add_get("/v1/models", models)


async def models(request: web.Request) -> web.Response:
    """GET /v1/models"""
    service = request.app[SERVICE]
    model = {"id": service.checkpoint.name, "object": "model", "created": 0}
    model["owned_by"] = "tabwise"
    return web.json_response({"object": "list", "data": [model]})


async def completions(request: web.Request) -> web.StreamResponse:
    """POST /v1/completions"""
    async with a_place(request):
        body = as_body(await read_json(request))
        asked = read(body, request.headers.get(SESSION_HEADER))
        service = request.app[SERVICE]
        if asked.stream:
            return await _stream(request, service, asked)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_generate(service, _nth(asked, n), None))
                for n in range(asked.choices)
            ]
        return web.json_response(_whole(service, asked, [t.result() for t in tasks]))


def read(body: Body, session: str | None) -> Asked:
    """Raises BadRequest naming the field."""
    for field in ("presence_penalty", "frequency_penalty"):
        number_of(body, field, 0, 0, 0)
    if flag_of(body, "echo"):
        raise BadRequest("echo is not served: the prompt is yours", field="echo")
    choices = whole_of(body, "n", 1, 1, MAX_CHOICES)
    stream = flag_of(body, "stream")
    if stream and choices > 1:
        raise BadRequest("n must be 1 for a stream", field="n")
    prefix, suffix = _texts(body)
    options = body.get("stream_options")
    return Asked(
        prefix=prefix,
        suffix=suffix,
        max_tokens=new_tokens_of(body, "max_tokens", 16),
        sampling=sampling_of(body, 1.0),
        stops=stops_of(body),
        choices=choices,
        stream=stream,
        stream_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        logprobs=whole_of(body, "logprobs", -1, -1, 5) >= 0,
        session=session,
    )


def _texts(body: Body) -> tuple[str, str | None]:
    """(prefix, suffix); suffix None where there is no hole."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise BadRequest("prompt must be a string", field="prompt")
    if body.get("suffix") is not None:
        return prompt, text_of(body, "suffix")
    hole = _SUFFIX_FIRST.search(prompt) or _PREFIX_FIRST.search(prompt)
    if hole is not None:
        return hole["prefix"], hole["suffix"]
    if not prompt:
        raise BadRequest("prompt must not be empty", field="prompt")
    return prompt, None


def _nth(asked: Asked, number: int) -> Asked:
    """The request for the n-th choice: another seed each."""
    seed = asked.sampling.seed
    if seed is None or not number:
        return asked
    return attrs.evolve(
        asked, sampling=attrs.evolve(asked.sampling, seed=seed + number)
    )


def _generate(
    service: CompletionService, asked: Asked, progress: Progressing
) -> Coroutine[Any, Any, Generation]:
    if asked.suffix is None:
        return service.go_on(
            asked.prefix,
            max(1, asked.max_tokens),
            asked.sampling,
            stop_texts=asked.stops,
            progress=progress,
        )
    return service.fill(
        Hole(prefix=asked.prefix, suffix=asked.suffix),
        Wanted(
            max_new_tokens=max(1, asked.max_tokens),
            stop=Stop.NONE,
            sampling=asked.sampling,
        ),
        stop_texts=asked.stops,
        progress=progress,
        session=asked.session,
    )


async def _stream(
    request: web.Request, service: CompletionService, asked: Asked
) -> web.StreamResponse:
    head = _head(service)

    def choice(text: str, reason: str | None) -> dict[str, Any]:
        one = {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}
        return {**head, "choices": [one]}

    def events(piece: str | Generation) -> list[Any]:
        if isinstance(piece, str):
            return [choice(piece, None)]
        usage = {**head, "choices": [], "usage": _usage([piece])}
        return [
            choice("", _reason(piece)),
            *([usage] if asked.stream_usage else []),
            "[DONE]",
        ]

    return await answer_events(
        request, lambda progress: _generate(service, asked, progress), events
    )


def _whole(
    service: CompletionService, asked: Asked, results: Sequence[Generation]
) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "text": decode_whole(result.text),
            "finish_reason": _reason(result),
            "logprobs": _logprobs(service, result) if asked.logprobs else None,
        }
        for index, result in enumerate(results)
    ]
    return {**_head(service), "choices": choices, "usage": _usage(results)}


def _head(service: CompletionService) -> dict[str, Any]:
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": service.checkpoint.name,
    }


def _reason(result: Generation) -> str:
    return FINISH.get(result.finish, "stop")


def _usage(results: Sequence[Generation]) -> dict[str, Any]:
    prompt = results[0].prompt_tokens
    new = sum(len(result.tokens) for result in results)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "total_tokens": prompt + new,
        "prompt_tokens_details": {"cached_tokens": results[0].cached_tokens},
    }


def _logprobs(service: CompletionService, result: Generation) -> dict[str, Any]:
    tokenizer = service.checkpoint.tokenizer
    texts = [tokenizer.decode([token]) for token in result.tokens]
    offsets, at = [], 0
    for text in texts:
        offsets.append(at)
        at += len(text)
    return {
        "tokens": texts,
        "token_logprobs": result.logprobs,
        "top_logprobs": None,
        "text_offset": offsets,
    }

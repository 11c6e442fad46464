"""OpenAI's /v1/completions and /v1/models, as far as editors and their libraries use
them. A prompt with a hole written into it (`holes.py`) counts as prefix and suffix.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import attrs
from aiohttp import web

from tabwise_model.infill import Hole, Wanted
from tabwise_model.request import Finish, Generation, Stop
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
from tabwise_server.serving.apis.holes import written_hole
from tabwise_server.serving.apis.streaming import Piece, Start, answer_events
from tabwise_server.serving.apis.text import decode_whole, offsets_of
from tabwise_server.serving.app_keys import SERVICE
from tabwise_server.serving.question import Question
from tabwise_server.serving.service import CompletionService

MAX_CHOICES = 4
FINISH: Mapping[Finish, str] = MappingProxyType({Finish.LENGTH: "length"})


@attrs.frozen(kw_only=True)
class Asked:
    """A request as it will be served."""

    question: Question
    choices: int
    stream: bool
    stream_usage: bool
    logprobs: bool

    def nth(self, number: int) -> Question:
        """The question for one of the choices: another seed each."""
        wanted = self.question.wanted
        seed = wanted.sampling.seed
        if seed is None or not number:
            return self.question
        sampling = attrs.evolve(wanted.sampling, seed=seed + number)
        return attrs.evolve(
            self.question, wanted=attrs.evolve(wanted, sampling=sampling)
        )


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
    with a_place(request) as ticket:
        asked = read(as_body(await read_json(request)))
        service = request.app[SERVICE]
        others = asked.choices - 1
        ticket.place.widen(others, others * service.context_tokens)
        starts = [
            partial(service.answer, asked.nth(n), ticket.asker)
            for n in range(asked.choices)
        ]
        if asked.stream:
            return await _stream(request, service, asked, starts)
        return web.json_response(_whole(service, asked, await _together(starts)))


def read(body: Body) -> Asked:
    """Raises BadRequest naming the field."""
    for field in ("presence_penalty", "frequency_penalty"):
        number_of(body, field, 0, 0, 0)
    if flag_of(body, "echo"):
        raise BadRequest("echo is not served: the prompt is yours", field="echo")
    options = body.get("stream_options")
    about = _about(body)
    # a hole has a right answer: without a temperature it is not left to chance
    temperature = 0.0 if isinstance(about, Hole) else 1.0
    return Asked(
        question=Question(
            about=about,
            wanted=Wanted(
                max_new_tokens=max(1, new_tokens_of(body, "max_tokens", 16)),
                stop=Stop.NONE,
                sampling=sampling_of(body, temperature),
            ),
            stop_texts=stops_of(body),
        ),
        choices=whole_of(body, "n", 1, 1, MAX_CHOICES),
        stream=flag_of(body, "stream"),
        stream_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        logprobs=whole_of(body, "logprobs", -1, -1, 5) >= 0,
    )


def _about(body: Body) -> Hole | str:
    """The hole, or where there is none the code to continue."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise BadRequest("prompt must be a string", field="prompt")
    if body.get("suffix") is not None:
        return Hole(prefix=prompt, suffix=text_of(body, "suffix"))
    hole = written_hole(prompt)
    if hole is not None:
        return hole
    if not prompt:
        raise BadRequest("prompt must not be empty", field="prompt")
    return prompt


async def _together(
    starts: Sequence[Callable[[], Awaitable[Generation]]],
) -> list[Generation]:
    """All of them; when one fails, its error, and the others are cancelled."""
    tasks = [asyncio.ensure_future(start()) for start in starts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _stream(
    request: web.Request,
    service: CompletionService,
    asked: Asked,
    starts: Sequence[Start],
) -> web.StreamResponse:
    head = _head(service)
    finished: list[Generation] = []

    def choice(index: int, piece: Piece | Generation) -> dict[str, Any]:
        one: dict[str, Any] = {"index": index, "text": "", "finish_reason": None}
        one["logprobs"] = None
        if isinstance(piece, Generation):
            one["finish_reason"] = _reason(piece)
        else:
            one["text"] = piece.text
            one["logprobs"] = _logprobs(service, piece) if asked.logprobs else None
        return {**head, "choices": [one]}

    def events(index: int, piece: Piece | Generation) -> list[Any]:
        found: list[Any] = [choice(index, piece)]
        if isinstance(piece, Generation):
            finished.append(piece)
            if len(finished) == asked.choices:
                if asked.stream_usage:
                    found.append({**head, "choices": [], "usage": _usage(finished)})
                found.append("[DONE]")
        return found

    return await answer_events(request, starts, events)


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


def _logprobs(service: CompletionService, found: Generation | Piece) -> dict[str, Any]:
    """Of the chosen tokens; where each begins counts from the completion's start."""
    tokenizer = service.checkpoint.tokenizer
    if isinstance(found, Piece):
        offsets = list(found.offsets)
    else:
        offsets = offsets_of(found.text, found.begins)
    return {
        "tokens": [tokenizer.decode([token]) for token in found.tokens],
        "token_logprobs": list(found.logprobs),
        "top_logprobs": None,
        "text_offset": offsets,
    }

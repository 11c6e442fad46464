"""llama.cpp's /infill and /completion, as far as editors use them (llama.vim,
llama.vscode): the texts in, `content` and `timings` out, plain or streamed.

Without a temperature both are greedy. `n_indent` ends an answer that is not streamed
before a line that is indented less. What concerns llama.cpp's own insides (samplers,
slots, its cache, its time limits) is passed over.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import attrs
from aiohttp import web

from tabwise_model.infill import Hole, Wanted
from tabwise_model.request import Finish, Generation, Stop
from tabwise_server.errors import BadRequest
from tabwise_server.serving.admission.receiving import Ticket, a_place, read_json
from tabwise_server.serving.apis.fields import (
    Body,
    as_body,
    flag_of,
    names_of,
    new_tokens_of,
    sampling_of,
    stops_of,
    text_of,
    whole_of,
)
from tabwise_server.serving.apis.holes import written_hole
from tabwise_server.serving.apis.streaming import Piece, answer_events
from tabwise_server.serving.apis.text import decode_whole
from tabwise_server.serving.app_keys import SERVICE
from tabwise_server.serving.question import Question
from tabwise_server.serving.service import CompletionService
from tabwise_server.wire import MAX_CONTEXT

DEFAULT_TOKENS = 128
MAX_INDENT = 1_000  # columns

# llama.vim looks for `"content":"`, without a blank
_compact = partial(json.dumps, separators=(",", ":"))


@attrs.frozen(kw_only=True)
class Asked:
    """A request as it will be served. tokens 0: the prompt is only read, so that the
    next request finds it in the cache. fields: what of the answer is wanted, by name,
    `timings/prompt_n` for one inside another; None for all."""

    question: Question
    tokens: int
    stream: bool
    fields: list[str] | None


def add_llamacpp(app: web.Application) -> None:
    app.router.add_post("/infill", infill)
    app.router.add_post("/completion", completion)


async def infill(request: web.Request) -> web.StreamResponse:
    """POST /infill"""
    with a_place(request) as ticket:
        body = as_body(await read_json(request))
        hole = Hole(
            prefix=text_of(body, "input_prefix") + text_of(body, "prompt"),
            suffix=text_of(body, "input_suffix"),
            context=_extra(body),
            indent=whole_of(body, "n_indent", 0, 0, MAX_INDENT),
        )
        return await _answer(request, ticket, _read(body, hole))


async def completion(request: web.Request) -> web.StreamResponse:
    """POST /completion"""
    with a_place(request) as ticket:
        body = as_body(await read_json(request))
        code = text_of(body, "prompt")
        if not code:
            raise BadRequest("prompt must be a string that is not empty", "prompt")
        about = written_hole(code) or code
        return await _answer(request, ticket, _read(body, about))


def _read(body: Body, about: Hole | str) -> Asked:
    tokens = new_tokens_of(body, "n_predict", DEFAULT_TOKENS)
    stream = flag_of(body, "stream")
    indented = isinstance(about, Hole) and about.indent > 0 and not stream
    return Asked(
        question=Question(
            about=about,
            wanted=Wanted(
                max_new_tokens=max(1, tokens),
                stop=Stop.BLOCK if indented else Stop.NONE,
                width=1,
                sampling=sampling_of(body, 0.0),
            ),
            stop_texts=stops_of(body),
        ),
        tokens=tokens,
        stream=stream,
        fields=names_of(body, "response_fields"),
    )


def _extra(body: Body) -> tuple[tuple[str, str], ...]:
    """`input_extra`: (path, text) of other files."""
    extra = body.get("input_extra")
    extra = [] if extra is None else extra
    if not isinstance(extra, list) or len(extra) > MAX_CONTEXT:
        raise BadRequest(
            f"input_extra must be an array of at most {MAX_CONTEXT}", "input_extra"
        )
    chunks = []
    for one in extra:
        if not isinstance(one, dict):
            raise BadRequest("input_extra must hold objects", "input_extra")
        chunks.append((text_of(one, "filename", "tmp"), text_of(one, "text")))
    return tuple(chunks)


async def _answer(
    request: web.Request, ticket: Ticket, asked: Asked
) -> web.StreamResponse:
    service = request.app[SERVICE]
    start = partial(service.answer, asked.question, ticket.asker)
    if not asked.stream:
        result = await start()
        answer = _chosen(asked, _last(service, asked, result, _text(asked, result)))
        return web.json_response(answer, dumps=_compact)

    def events(_: int, piece: Piece | Generation) -> list[Any]:
        if isinstance(piece, Generation):
            return [_last(service, asked, piece, "")]
        return [{"content": piece.text, "stop": False}] if asked.tokens else []

    return await answer_events(request, [start], events)


def _chosen(asked: Asked, answer: dict[str, Any]) -> dict[str, Any]:
    """What of the answer was asked for, each under the name that it was asked by."""
    if asked.fields is None:
        return answer
    flat = {f"timings/{name}": value for name, value in answer["timings"].items()}
    known = {**answer, **flat}
    return {name: known[name] for name in asked.fields if name in known}


def _text(asked: Asked, result: Generation) -> str:
    return decode_whole(result.text) if asked.tokens else ""


def _last(
    service: CompletionService, asked: Asked, result: Generation, text: str
) -> dict[str, Any]:
    """The answer, or a stream's last event."""
    computed = result.prompt_tokens - result.cached_tokens
    prefill_ms, decode_ms = result.prefill_s * 1000, result.decode_s * 1000
    new = len(result.tokens) if asked.tokens else 0
    return {
        "content": text,
        "stop": True,
        "stop_type": _stop_type(result),
        "model": service.checkpoint.name,
        "created": int(time.time()),
        "tokens_predicted": new,
        "tokens_evaluated": result.prompt_tokens,
        "tokens_cached": result.prompt_tokens + new,
        "truncated": False,
        "timings": {
            "prompt_n": computed,
            "prompt_ms": prefill_ms,
            "prompt_per_second": _rate(computed, result.prefill_s),
            "predicted_n": new,
            "predicted_ms": decode_ms,
            "predicted_per_second": _rate(new, result.decode_s),
        },
    }


def _rate(count: int, seconds: float) -> float:
    """Per second; 0 where it took no time, as of an answer that was kept."""
    return count / seconds if seconds else 0.0


def _stop_type(result: Generation) -> str:
    if result.finish is Finish.LENGTH:
        return "limit"
    return "word" if result.finish is Finish.STOP else "eos"

"""The playground: its plain files at `/`, and suggestions as an editor shows them, with
what the model saw for them.

The page holds nothing secret, so it is shown to everyone; what it asks needs the key.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from importlib.resources import files
from typing import Literal

import attrs
from aiohttp import web

from tabwise_model.request import Finish
from tabwise_model.tokenizer import SENTINELS, Tokenizer
from tabwise_server.serving.admission.receiving import a_place, read_json
from tabwise_server.serving.apis.ours import question_of
from tabwise_server.serving.apis.text import decode_whole
from tabwise_server.serving.app_keys import SERVICE
from tabwise_server.suggest.levels import part_threshold, threshold
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.prompt import (
    PromptOptions,
    build_request,
    however_unlikely,
    worth_asking,
)
from tabwise_server.suggest.shape import ShapeOptions, shape
from tabwise_server.wire import MAX_NAME, AtMost, structure

_FILES = (
    ("/playground.js", "text/javascript"),
    ("/playground.css", "text/css"),
)


@attrs.frozen(kw_only=True)
class SuggestRequest:
    """POST /v1/tabwise/suggest: Python around a cursor, and how sure the model must be.
    session: as in CompletionRequest."""

    prefix: str
    suffix: str = ""
    session: str | None = attrs.field(default=None, validator=AtMost(MAX_NAME))
    level: Literal["quiet", "balanced", "eager"] = "balanced"


@attrs.frozen(kw_only=True)
class Piece:
    """A token: its id and its text. cached: the prefix cache held it; sentinel: it
    stands for no text, and `text` is its name. Bytes of a character that is split show
    as U+FFFD."""

    id: int
    text: str
    cached: bool = False
    sentinel: bool = False


@attrs.frozen(kw_only=True)
class Suggested:
    """text: what an editor would show, "" for nothing. raw: what the model wrote, of
    `pieces`. prompt: what it read; the last piece of the text is written anew, and
    `healed` is how much of it had been typed. threshold: of the level."""

    text: str
    raw: str
    confidence: float
    threshold: float
    pieces: list[Piece]
    prompt: list[Piece]
    healed: str
    latency_ms: float


def add_playground(app: web.Application) -> None:
    """Serve the page, its files, and the route that it asks."""
    app.router.add_get("/", index)
    for path, _ in _FILES:
        app.router.add_get(path, asset)
    app.router.add_post("/v1/tabwise/suggest", suggest)


async def index(request: web.Request) -> web.Response:
    """The page, which may load from its own origin alone. CodeMirror writes styles of
    its own: they carry a nonce of this answer."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; "
        "style-src-attr 'unsafe-inline'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    page = _read("index.html").replace("NONCE", nonce)
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return web.Response(text=page, content_type="text/html", headers=headers)


async def asset(request: web.Request) -> web.Response:
    """One of the page's files."""
    kind = dict(_FILES)[request.path]
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    text = _read(request.path.removeprefix("/"))
    return web.Response(text=text, content_type=kind, headers=headers)


async def suggest(request: web.Request) -> web.Response:
    """POST /v1/tabwise/suggest"""
    with a_place(request) as ticket:
        wanted = structure(SuggestRequest, await read_json(request))
        place = Place(prefix=wanted.prefix, suffix=wanted.suffix, language="python")
        service = request.app[SERVICE]
        model = service.engines.model
        asker = ticket.until(None, wanted.session)
        asked = PromptOptions(
            min_confidence=threshold(wanted.level),
            min_part_confidence=part_threshold(wanted.level),
        )
        completion = build_request(place, asked)
        question = question_of(completion)
        result = await service.answer(question, asker)
        cached = result.cached_tokens
        if result.finish is Finish.UNSURE:  # what it thought of, all the same
            question = question_of(however_unlikely(completion))
            result = await service.answer(question, asker)
        raw, confidence = decode_whole(result.text), result.probability or 0.0
        options = ShapeOptions(min_confidence=asked.min_confidence)
        text = shape(raw, place, confidence, options) if worth_asking(place) else None
        prompt = model.prompt(question)
        tokenizer = model.checkpoint.tokenizer
        answer = Suggested(
            text=text or "",
            raw=raw,
            confidence=confidence,
            threshold=options.min_confidence,
            pieces=_pieces(tokenizer, result.tokens),
            prompt=_pieces(tokenizer, prompt.ids, cached),
            healed=prompt.heal.decode("utf-8", "replace"),
            latency_ms=round((time.monotonic() - ticket.received) * 1000, 1),
        )
        return web.json_response(attrs.asdict(answer))


def _pieces(tokenizer: Tokenizer, ids: Iterable[int], cached: int = 0) -> list[Piece]:
    """Tokens to be looked at, of which the first `cached` were in the cache."""
    return [_piece(tokenizer, id, n < cached) for n, id in enumerate(ids)]


def _piece(tokenizer: Tokenizer, id: int, cached: bool) -> Piece:
    if id not in tokenizer.sentinels:
        return Piece(id=id, text=tokenizer.decode([id]), cached=cached)
    name = SENTINELS[id - tokenizer.vocab_size]  # they are the last ids, in this order
    return Piece(id=id, text=name, cached=cached, sentinel=True)


def _read(name: str) -> str:
    folder = files("tabwise_server") / "serving" / "web"
    return (folder / name).read_text(encoding="utf-8")

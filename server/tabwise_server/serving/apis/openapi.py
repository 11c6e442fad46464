"""GET /openapi.json: what this server takes and gives, for programs.

The fuzzer of the tests reads it and asks the running server, so that neither can say
what the other does not do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiohttp import web

from tabwise_server import __version__
from tabwise_server.serving.admission.receiving import DEADLINE_HEADER, SESSION_HEADER
from tabwise_server.serving.apis.llamacpp import MAX_INDENT
from tabwise_server.serving.apis.openai import MAX_CHOICES
from tabwise_server.serving.apis.playground import Suggested, SuggestRequest
from tabwise_server.serving.apis.schemas import (
    ANY_COUNT,
    ERROR,
    EXTRA,
    NAME,
    NAMES,
    SAMPLING,
    TEXT,
    Schema,
    number,
    schema_of,
    whole,
)
from tabwise_server.serving.app_keys import SETTINGS
from tabwise_server.serving.observing.requests import ID_HEADER
from tabwise_server.wire import (
    MAX_DEADLINE_MS,
    CodeRequest,
    CodeResponse,
    CompletionRequest,
    CompletionResponse,
)

OBJECT: Schema = {"type": "object"}
HEADERS: Mapping[str, Schema] = MappingProxyType(
    {
        SESSION_HEADER: NAME,
        DEADLINE_HEADER: {"type": "number", "minimum": 1, "maximum": MAX_DEADLINE_MS},
        ID_HEADER: {"type": "string"},
    }
)
# What any of our routes may refuse, and why.
REFUSALS: Mapping[int, str] = MappingProxyType(
    {
        400: "The body is not JSON, or the request is not HTTP",
        401: "The API key is missing or wrong",
        403: "A web page of another origin asks",
        408: "The body took too long",
        413: "The body is too large",
        422: "A field is of the wrong type, unknown, or out of range",
        429: "This key's own limit is reached; see Retry-After",
        500: "The engine failed",
        503: "The server is full, draining or restarting its engine; see Retry-After",
        504: "The deadline has passed",
    }
)


def add_openapi(app: web.Application) -> None:
    text = json.dumps(document(daemon=app[SETTINGS].daemon))

    async def openapi(request: web.Request) -> web.Response:
        """GET /openapi.json"""
        return web.Response(text=text, content_type="application/json")

    app.router.add_get("/openapi.json", openapi)


def document(*, daemon: bool = False) -> dict[str, Any]:
    """The OpenAPI 3.1 document, of a user's own daemon or of another server."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tabwise", "version": __version__},
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": ERROR},
        },
        "security": [{}, {"key": []}],
        "paths": {**_completions(daemon), **_others()},
    }


def _completions(daemon: bool) -> dict[str, Any]:
    return {
        "/v1/tabwise/complete": _post(
            "Fill in between prefix and suffix",
            _our_request(daemon),
            schema_of(CompletionResponse),
        ),
        "/complete": _post(
            "Continue code left to right", _code_request(), schema_of(CodeResponse)
        ),
        "/v1/completions": _post("OpenAI's", _openai_request(), OBJECT, streamed=True),
        "/infill": _post("llama.cpp's", _infill_request(), OBJECT, streamed=True),
        "/completion": _post(
            "llama.cpp's", _completion_request(), OBJECT, streamed=True
        ),
    }


def _others() -> dict[str, Any]:
    json_object = {"application/json": {"schema": OBJECT}}
    return {
        "/v1/tabwise/suggest": _post(
            "What an editor would show, for the playground",
            schema_of(SuggestRequest),
            schema_of(Suggested),
        ),
        "/v1/models": _get("OpenAI's list of models", json_object),
        "/health": _get("What is served", json_object),
        "/livez": _get("Whether the engine moves", json_object),
        "/readyz": _get("Whether to send requests here", json_object),
        "/metrics": _get("Prometheus' text form", {"text/plain": {}}),
    }


def _our_request(daemon: bool) -> Schema:
    """Only a daemon reads folders."""
    schema = schema_of(CompletionRequest)
    if not daemon:
        del schema["properties"]["workspace"]
    return schema


def _code_request() -> Schema:
    schema = schema_of(CodeRequest)
    schema["properties"]["code"]["minLength"] = 1
    return schema


def _openai_request() -> Schema:
    """Without a suffix, an empty prompt is none."""
    some = {"type": "string", "minLength": 1}
    properties = {
        **SAMPLING,
        "prompt": _one_or_list_of_one({"type": "string"}),
        "suffix": TEXT,
        "max_tokens": ANY_COUNT,
        "n": whole(1, MAX_CHOICES),
        "logprobs": whole(-1, 5),
        "echo": {"enum": [False, None]},
        "presence_penalty": number(0, 0),
        "frequency_penalty": number(0, 0),
    }
    return {
        "type": "object",
        "required": ["prompt"],
        "properties": properties,
        "anyOf": [
            {"properties": {"prompt": _one_or_list_of_one(some)}},
            {"required": ["suffix"], "properties": {"suffix": {"type": "string"}}},
        ],
    }


def _one_or_list_of_one(schema: Schema) -> Schema:
    return {
        "anyOf": [
            schema,
            {"type": "array", "minItems": 1, "maxItems": 1, "items": schema},
        ]
    }


def _infill_request() -> Schema:
    texts = {"input_prefix": TEXT, "prompt": TEXT, "input_suffix": TEXT}
    counts = {"n_predict": ANY_COUNT, "n_indent": whole(0, MAX_INDENT)}
    properties = {**SAMPLING, **texts, **counts, "input_extra": EXTRA}
    properties["response_fields"] = NAMES
    return {"type": "object", "properties": properties}


def _completion_request() -> Schema:
    prompt = {"type": "string", "minLength": 1}
    properties = {**SAMPLING, "prompt": prompt, "n_predict": ANY_COUNT}
    properties["response_fields"] = NAMES
    return {"type": "object", "required": ["prompt"], "properties": properties}


def _post(
    summary: str,
    body: Schema,
    answer: Schema,
    streamed: bool = False,
    headers: Mapping[str, Schema] = HEADERS,
) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": answer}}
    if streamed:
        content["text/event-stream"] = {}
    operation = {
        "summary": summary,
        "parameters": [
            {"name": name, "in": "header", "schema": schema}
            for name, schema in headers.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body}},
        },
        "responses": {"200": _answer("Done", content), **_refusals()},
    }
    return {"post": operation}


def _get(summary: str, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            "responses": {"200": _answer("Done", content), **_refusals()},
        }
    }


def _refusals() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    content = {"application/json": {"schema": schema}}
    return {str(s): _answer(text, content) for s, text in REFUSALS.items()}


def _answer(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": content}

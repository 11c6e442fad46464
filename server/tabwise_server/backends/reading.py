"""Reading what a server says: JSON, event streams, the many forms of an error."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tabwise_server.errors import BackendUnavailable

MAX_EVENT_BYTES = 1 << 20


async def read_object(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The body as a JSON object. Raises BackendUnavailable if it is none."""
    try:
        data = json.loads(await response.read())
    except ValueError as error:
        raise BackendUnavailable(
            f"{response.url.origin()} is not such a backend: its answer is not JSON"
        ) from error
    if not isinstance(data, dict):
        raise BackendUnavailable(
            f"{response.url.origin()} is not such a backend: no JSON object"
        )
    return data


async def read_events(
    response: aiohttp.ClientResponse,
) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of an event stream up to [DONE]; a body that is plain JSON,
    from a server that does not stream, is the one event.

    Raises BackendUnavailable for what is neither.
    """
    if response.content_type == "application/json":
        yield await read_object(response)
        return
    rest = b""
    async for data in response.content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > MAX_EVENT_BYTES:
            raise BackendUnavailable(f"{response.url.origin()} sends endless lines")
        for line in lines:
            field, _, value = line.strip().partition(b":")
            if field == b"data" and value.strip() == b"[DONE]":
                return
            if field in (b"data", b"error") and value:
                yield _event(value, response)


def message_of(body: bytes) -> str | None:
    """What an error's JSON says: our form, OpenAI's, vLLM's, or FastAPI's detail."""
    try:
        data = json.loads(body)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    error = data.get("error", data)
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail")
    return str(error)[:300] if error else None


def _event(value: bytes, response: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        event = json.loads(value)
    except ValueError as error:
        raise BackendUnavailable(
            f"{response.url.origin()} sent an event that is not JSON"
        ) from error
    if not isinstance(event, dict):
        raise BackendUnavailable(f"{response.url.origin()} sent an event of no object")
    if event.get("error"):
        said = message_of(value) or "it failed"
        raise BackendUnavailable(f"{response.url.origin()}: {said}")
    return event

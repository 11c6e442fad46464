"""Generations as they grow, for server-sent events."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any

import attrs
from aiohttp import web

from tabwise_model.request import Generation, Progress
from tabwise_server.errors import TabwiseError
from tabwise_server.serving.apis.text import offsets_of
from tabwise_server.serving.app_keys import BROKEN, SERVICE, SETTINGS, TOLD
from tabwise_server.serving.observing.requests import note

# Begins a generation, given what it is to call in the engine's thread.
Start = Callable[[Callable[[Progress], None]], Coroutine[Any, Any, Generation]]


@attrs.frozen
class Piece:
    """What has come since the piece before. offsets: characters of the whole text that
    stand before each of its tokens."""

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    offsets: tuple[int, ...]


class _Growing:
    """One generation's text so far, as characters."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._bytes = self._tokens = 0

    def grow(self, found: Progress | Generation) -> Piece | None:
        """What is new: a character at least, or a generation's last tokens."""
        text = self._decoder.decode(found.text[self._bytes :])
        self._bytes = len(found.text)
        left = isinstance(found, Generation) and len(found.tokens) > self._tokens
        if not text and not left:
            return None
        new = slice(self._tokens, None)
        self._tokens = len(found.tokens)
        return Piece(
            text,
            tuple(found.tokens[new]),
            tuple(found.logprobs[new]),
            tuple(offsets_of(found.text, found.begins)[new]),
        )


async def pieces(
    starts: Sequence[Start],
) -> AsyncGenerator[tuple[int, Piece | Generation], None]:
    """(which, new text) whenever one of them has some, and (which, the finished
    generation) as each ends. Closing the iterator cancels the work."""
    loop = asyncio.get_running_loop()
    news: asyncio.Queue[tuple[int, Progress | None]] = asyncio.Queue()

    def begin(which: int, start: Start) -> asyncio.Task[Generation]:
        def progress(found: Progress) -> None:
            loop.call_soon_threadsafe(news.put_nowait, (which, found))

        task = asyncio.create_task(start(progress))
        task.add_done_callback(lambda _: news.put_nowait((which, None)))
        return task

    tasks = [begin(which, start) for which, start in enumerate(starts)]
    growing = [_Growing() for _ in starts]
    try:
        for _ in starts:
            which, found = await news.get()
            while found is not None:
                if piece := growing[which].grow(found):
                    yield which, piece
                which, found = await news.get()
            result = tasks[which].result()
            if piece := growing[which].grow(result):
                yield which, piece
            yield which, result
    finally:
        for task in tasks:
            task.cancel()


async def answer_events(
    request: web.Request,
    starts: Sequence[Start],
    events: Callable[[int, Piece | Generation], list[Any]],
) -> web.StreamResponse:
    """Answer with the events of each piece. What fails before the first is a plain
    answer; after it, an event with the error ends the stream.

    Raises ConnectionResetError where the client has left, or does not read; its work is
    cancelled.
    """
    response: web.StreamResponse | None = None
    try:
        # closed here and now, not when its last reference goes
        async with contextlib.aclosing(pieces(starts)) as found:
            async for which, piece in found:
                for event in events(which, piece):
                    response = response or await _begin(request)
                    await _send(request, response, event)
    except TabwiseError as error:
        if response is None:
            raise
        request[BROKEN] = True
        request.app[SERVICE].metrics.rejected.labels(error.code).inc()
        note(error=error.code)
        said = {"code": error.code, "message": str(error)}
        await _send(request, response, {"error": said})
    assert response is not None
    return response


async def _begin(request: web.Request) -> web.StreamResponse:
    """Proxies are asked not to hold events back."""
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
        }
    )
    await response.prepare(request)
    request[TOLD] = True
    return response


async def _send(request: web.Request, response: web.StreamResponse, event: Any) -> None:
    """Raises ConnectionResetError; a client that reads too slowly is sent away."""
    text = event if isinstance(event, str) else json.dumps(event)
    try:
        async with asyncio.timeout(request.app[SETTINGS].write_timeout_s):
            await response.write(f"data: {text}\n\n".encode())
    except TimeoutError as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client does not read") from error

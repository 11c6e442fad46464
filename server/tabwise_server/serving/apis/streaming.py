"""A generation as it grows, for server-sent events."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from aiohttp import web

from tabwise_model.request import Generation, Progress
from tabwise_server.errors import TabwiseError

Start = Callable[[Callable[[Progress], None]], Coroutine[Any, Any, Generation]]


async def pieces(start: Start) -> AsyncGenerator[str | Generation, None]:
    """New text whenever there is some, then the finished generation.

    start: begins the generation, given what it is to call in the engine's thread.
    Closing the iterator cancels the work.
    """
    loop = asyncio.get_running_loop()
    grown: asyncio.Queue[Progress | None] = asyncio.Queue()

    def progress(found: Progress) -> None:
        loop.call_soon_threadsafe(grown.put_nowait, found)

    task = asyncio.create_task(start(progress))
    task.add_done_callback(lambda _: grown.put_nowait(None))
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    told = 0
    try:
        while (found := await grown.get()) is not None:
            if text := decoder.decode(found.text[told:]):
                yield text
            told = len(found.text)
        result = task.result()
        if text := decoder.decode(result.text[told:]):
            yield text
        yield result
    finally:
        task.cancel()


async def answer_events(
    request: web.Request, start: Start, events: Callable[[str | Generation], list[Any]]
) -> web.StreamResponse:
    """Answer with the events of each piece. What fails before the first is a plain
    answer; after it, an event with the error ends the stream.

    Raises ConnectionResetError where the client has left; its work is cancelled.
    """
    response: web.StreamResponse | None = None
    try:
        # closed here and now, not when its last reference goes
        async with contextlib.aclosing(pieces(start)) as found:
            async for piece in found:
                response = response or await _begin(request)
                for event in events(piece):
                    await _send(response, event)
    except TabwiseError as error:
        if response is None:
            raise
        said = {"code": error.code, "message": str(error)}
        await _send(response, {"error": said})
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
    return response


async def _send(response: web.StreamResponse, event: Any) -> None:
    text = event if isinstance(event, str) else json.dumps(event)
    await response.write(f"data: {text}\n\n".encode())

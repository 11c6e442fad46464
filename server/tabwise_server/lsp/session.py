"""One open document's stream of requests.

The newest request wins: an older one for another place is cancelled, through to the
backend, and answered with nothing. Typing through what is shown is answered from
memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import traceback
from collections import OrderedDict

import attrs

from tabwise_server.backends.protocol import Backend
from tabwise_server.errors import TabwiseError
from tabwise_server.settings import LspSettings
from tabwise_server.suggest.brackets import CLOSERS, QUOTES
from tabwise_server.suggest.levels import threshold
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.prompt import PromptOptions, build_request
from tabwise_server.suggest.shape import ShapeOptions, shape
from tabwise_server.suggest.trim import trim_overlap
from tabwise_server.wire import CompletionRequest

logger = logging.getLogger(__name__)

CACHED_SUGGESTIONS = 64


@attrs.frozen
class Shown:
    """A suggestion and the text it was made for."""

    prefix: str
    suffix: str
    text: str


@attrs.define
class Flight:
    """One request on its way, and how many wait for it."""

    key: bytes
    task: asyncio.Task[str | None]
    waiting: int = 0


class Session:
    """Suggestions for one document. Used from one event loop."""

    def __init__(self, name: str, backend: Backend, settings: LspSettings) -> None:
        """name: the backend's session key; it keeps this document's prefix cache."""
        self._name = name
        self._backend = backend
        self._settings = settings
        self._shape = ShapeOptions(
            min_confidence=threshold(settings.level, settings.min_confidence)
        )
        self._shown: Shown | None = None
        self._cache: OrderedDict[bytes, str | None] = OrderedDict()
        self._flight: Flight | None = None

    async def suggest(self, place: Place, patience_ms: float) -> str | None:
        """The text to insert at `place`, or None: nothing fit to show, not in time, or
        a newer request came. Cancelling the last that waits cancels the work."""
        if self._shown is not None:
            rest = continue_shown(self._shown, place)
            if rest is not None:
                self._supersede(None)
                return rest
        request = build_request(place, self._options(), self._name)
        key = _key_of(request)
        if key in self._cache:
            self._supersede(None)
            self._cache.move_to_end(key)
            return self._remember(place, self._cache[key])
        return await self._wait_for(self._join(key, request, place), patience_ms)

    def forget(self) -> None:
        """Drop all remembered suggestions: the backend may be another one now."""
        self._shown = None
        self._cache.clear()

    def close(self) -> None:
        self._supersede(None)
        self.forget()

    def _options(self) -> PromptOptions:
        settings = self._settings
        return PromptOptions(
            max_prefix_chars=settings.max_prefix_chars,
            max_suffix_chars=settings.max_suffix_chars,
            max_new_tokens=settings.max_new_tokens,
            deadline_ms=settings.deadline_ms,
            min_confidence=threshold(settings.level, settings.min_confidence),
        )

    def _join(self, key: bytes, request: CompletionRequest, place: Place) -> Flight:
        """The flight for `key`: the one on its way, or a new one in its place."""
        self._supersede(key)
        if self._flight is None:
            task = asyncio.create_task(self._ask(key, request, place))
            task.add_done_callback(self._landed)
            self._flight = Flight(key, task)
        return self._flight

    def _landed(self, task: asyncio.Task[str | None]) -> None:
        if self._flight is not None and self._flight.task is task:
            self._flight = None

    def _supersede(self, key: bytes | None) -> None:
        """Cancel what is on its way for anything but `key`."""
        if self._flight is not None and self._flight.key != key:
            self._flight.task.cancel()
            self._flight = None

    async def _wait_for(self, flight: Flight, patience_ms: float) -> str | None:
        flight.waiting += 1
        try:
            await asyncio.wait({flight.task}, timeout=patience_ms / 1000)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                flight.task.cancel()
                if self._flight is flight:
                    self._flight = None
        if not flight.task.done() or flight.task.cancelled():
            return None
        return flight.task.result()

    async def _ask(
        self, key: bytes, request: CompletionRequest, place: Place
    ) -> str | None:
        """Ask the backend, shape its answer, remember it. No failure passes."""
        try:
            response = await self._backend.complete(request)
            confidence = response.confidence
            text = shape(response.text, place, confidence, self._shape)
        except TabwiseError as error:
            logger.info("no completion: %s", error)
            return None
        except Exception as error:  # noqa: BLE001  a request is always answered
            _log_defect(error)
            return None
        self._cache[key] = text
        if len(self._cache) > CACHED_SUGGESTIONS:
            self._cache.popitem(last=False)
        return self._remember(place, text)

    def _remember(self, place: Place, text: str | None) -> str | None:
        self._shown = Shown(place.prefix, place.suffix, text) if text else None
        return text


def continue_shown(shown: Shown, place: Place) -> str | None:
    """The rest of a shown suggestion after its beginning was typed (or partly deleted
    again), None if anything else changed or nothing is left.

    An editor that typed the closing bracket or quote along is understood:

    >>> shown = Shown("f", "\\n", "(a, b)")
    >>> continue_shown(shown, Place(prefix="f(", suffix=")\\n"))
    'a, b'
    """
    if not place.prefix.startswith(shown.prefix):
        return None
    typed = place.prefix[len(shown.prefix) :].replace("\r\n", "\n")
    if not shown.text.startswith(typed):
        return None
    rest = shown.text[len(typed) :]
    if place.suffix != shown.suffix:
        added = place.suffix.removesuffix(shown.suffix)
        if len(added) > 3 or len(added) + len(shown.suffix) != len(place.suffix):
            return None
        if not all(char in CLOSERS or char in QUOTES for char in added):
            return None
        rest = trim_overlap(rest, place)
    return rest if rest.strip() else None


def _key_of(request: CompletionRequest) -> bytes:
    """All that an answer depends on, in 16 bytes."""
    parts = (request.path, request.language, request.stop, request.prefix)
    text = "\0".join(part or "" for part in (*parts, request.suffix))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def _log_defect(error: Exception) -> None:
    """Where a defect of ours is, without the values: they may hold a user's text."""
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s while completing:\n%s", type(error).__name__, where)

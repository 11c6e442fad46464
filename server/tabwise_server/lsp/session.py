"""One open document's stream of requests.

The newest request wins: an older one for another place is cancelled, through to the
backend, and answered with nothing. Typing through what is shown is answered from
memory; while it is looked at, the line after it is asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import attrs

from tabwise_server.backends.protocol import Backend
from tabwise_server.errors import DeadlineExceeded, TabwiseError
from tabwise_server.lsp.memory import Memory, Shown
from tabwise_server.settings import LspSettings
from tabwise_server.suggest.indentation import IndentStyle, style_at
from tabwise_server.suggest.levels import part_threshold, threshold
from tabwise_server.suggest.place import Place, indent_of, opens_block
from tabwise_server.suggest.prompt import PromptOptions, build_request, worth_asking
from tabwise_server.suggest.shape import ShapeOptions, shape
from tabwise_server.suggest.syntax import prepare
from tabwise_server.wire import (
    CompletionRequest,
    CompletionResponse,
    ContextChunk,
    WorkspaceFolder,
)

logger = logging.getLogger(__name__)

CACHED_ANSWERS = 64
SENT_S = 0.002  # by then a request is on its way
EXPLICIT_CONFIDENCE = 0.05  # who asks for it wants to see even a guess
EXPLICIT_CANDIDATES = 3


@attrs.frozen(kw_only=True)
class Question:
    """What is asked of a session. workspace: for the backend to copy from. explicit: by
    the user, not by a keystroke. prefetch: ask for the line after the answer, too."""

    place: Place
    settings: LspSettings
    context: tuple[ContextChunk, ...] = ()
    workspace: WorkspaceFolder | None = None
    style: IndentStyle | None = None
    explicit: bool = False
    prefetch: bool = False

    @property
    def min_confidence(self) -> float:
        least = threshold(self.settings.level, self.settings.min_confidence)
        return min(least, EXPLICIT_CONFIDENCE) if self.explicit else least

    def request(self, session: str) -> CompletionRequest:
        least = self.min_confidence
        options = attrs.evolve(options_of(self.settings), min_confidence=least)
        request = build_request(self.place, options, session, self.context)
        wanted = EXPLICIT_CANDIDATES if self.explicit else 1
        return attrs.evolve(request, candidates=wanted, workspace=self.workspace)


def options_of(settings: LspSettings) -> PromptOptions:
    """What a keystroke's request is made with."""
    return PromptOptions(
        max_prefix_chars=settings.max_prefix_chars,
        max_suffix_chars=settings.max_suffix_chars,
        max_new_tokens=settings.max_new_tokens,
        deadline_ms=settings.deadline_ms,
        min_confidence=threshold(settings.level, settings.min_confidence),
        min_part_confidence=part_threshold(settings.level, settings.min_confidence),
    )


@attrs.frozen
class Suggestion:
    """text: to insert. shown: what it is, or is the rest of, in the memory.
    fresh: it is no rest of one that was shown before."""

    text: str
    shown: Shown
    fresh: bool = True


@attrs.define(eq=False)
class Flight:
    """One request on its way, and how many wait for it; none for a prefetch."""

    key: bytes
    task: asyncio.Task[CompletionResponse | None]
    waiting: int = 0
    prefetch: bool = False


def _ignore(latency_ms: float) -> None:
    """For who does not want to know."""


class Session:
    """Suggestions for one document. Used from one event loop."""

    def __init__(
        self, name: str, backend: Backend, took: Callable[[float], None] = _ignore
    ) -> None:
        """name: the backend's session key; it keeps this document's prefix cache.
        took: told the milliseconds of each answer of the backend."""
        self._name = name
        self._backend = backend
        self._took = took
        self.memory = Memory()
        self.newest: Question | None = None
        self._cache: OrderedDict[bytes, CompletionResponse] = OrderedDict()
        self._flight: Flight | None = None

    async def suggest(self, question: Question, patience_ms: float) -> list[Suggestion]:
        """What to insert at the place, distinct, the best first; none where nothing is
        fit to show, or in time, or a newer request came. Cancelling the last that
        waits cancels the work."""
        self.newest = question
        found = self.memory.rest(question.place)
        if found is not None and not question.explicit:
            self._supersede(None, keep_prefetch=True)
            shown, rest = found
            return [Suggestion(rest, shown, fresh=False)]
        if not worth_asking(question.place):
            self._supersede(None)
            return []
        request = question.request(self._name)
        key = _key_of(request)
        if key in self._cache:
            self._supersede(None)
            self._cache.move_to_end(key)
            response: CompletionResponse | None = self._cache[key]
        else:
            flight = self._join(key, request)
            response = await self._wait_for(flight, patience_ms, question.place)
        return self._show(question, response)

    def forget(self) -> None:
        """Drop all remembered answers: the backend may be another one now."""
        self.memory.forget()
        self._cache.clear()

    def use(self, backend: Backend) -> None:
        """Ask `backend` from now on."""
        self.close()
        self._backend = backend

    def close(self) -> None:
        self._supersede(None)
        self.forget()

    def _show(
        self, question: Question, response: CompletionResponse | None
    ) -> list[Suggestion]:
        """The answer shaped, remembered, and the line after it on its way."""
        try:
            texts = _shape(question, response, self.memory.rejected)
        except Exception as error:  # noqa: BLE001  a request is always answered
            _log_defect(error)
            return []
        if texts and question.prefetch:
            whole = response is not None and response.finish != "part"
            self._prefetch(question, texts[0], whole)
        remember = partial(self.memory.remember, question.place)
        found = [Suggestion(text, remember(text)) for text in reversed(texts)]
        return found[::-1]

    def _prefetch(self, question: Question, text: str, whole: bool) -> None:
        """Ask for the line after `text`, or, unless it is a whole one, for its rest, if
        nothing else is on its way."""
        place = next_line(question, text) if whole else rest_of(question.place, text)
        if place is None or self._flight is not None:
            return
        after = attrs.evolve(question, place=place, explicit=False)
        request = after.request(self._name)
        key = _key_of(request)
        if key not in self._cache:
            self._fly(key, request, prefetch=True)

    def _join(self, key: bytes, request: CompletionRequest) -> Flight:
        """The flight for `key`: the one on its way, or a new one in its place."""
        self._supersede(key)
        return self._flight or self._fly(key, request)

    def _fly(
        self, key: bytes, request: CompletionRequest, prefetch: bool = False
    ) -> Flight:
        task = asyncio.create_task(self._ask(key, request))
        task.add_done_callback(self._landed)
        self._flight = Flight(key, task, prefetch=prefetch)
        return self._flight

    def _landed(self, task: asyncio.Task[CompletionResponse | None]) -> None:
        if self._flight is not None and self._flight.task is task:
            self._flight = None

    def _supersede(self, key: bytes | None, keep_prefetch: bool = False) -> None:
        """Cancel what is on its way for anything but `key`."""
        flight = self._flight
        if flight is None or flight.key == key or (keep_prefetch and flight.prefetch):
            return
        flight.task.cancel()
        self._flight = None

    async def _wait_for(
        self, flight: Flight, patience_ms: float, place: Place
    ) -> CompletionResponse | None:
        """The answer, in time; what shaping it needs is made ready meanwhile."""
        flight.waiting += 1
        flight.prefetch = False
        try:
            done, _ = await asyncio.wait({flight.task}, timeout=SENT_S)
            if not done:
                prepare(place)
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
        self, key: bytes, request: CompletionRequest
    ) -> CompletionResponse | None:
        """Ask the backend and remember its answer. No failure passes."""
        began = time.perf_counter()
        try:
            response = await self._backend.complete(request)
        except TabwiseError as error:
            if isinstance(error, DeadlineExceeded):
                self._took((time.perf_counter() - began) * 1000)
            logger.info("no completion: %s", error)
            return None
        except Exception as error:  # noqa: BLE001  a request is always answered
            _log_defect(error)
            return None
        self._took((time.perf_counter() - began) * 1000)
        self._cache[key] = response
        if len(self._cache) > CACHED_ANSWERS:
            self._cache.popitem(last=False)
        return response


def rest_of(place: Place, text: str) -> Place:
    """Where the cursor stands after `text` was taken."""
    return attrs.evolve(place, prefix=place.prefix + text)


def next_line(question: Question, text: str) -> Place | None:
    """Where the cursor stands after `text` was taken and Enter was pressed, None in
    the middle of a line.

    >>> question = Question(place=Place(prefix="if "), settings=LspSettings())
    >>> next_line(question, "x:").prefix
    'if x:\\n    '
    """
    place = question.place
    if place.line_after.strip():
        return None
    written = place.prefix + text
    line = written[written.rfind("\n") + 1 :]
    indent = indent_of(line)
    if opens_block(line):
        style = style_at(place, question.style) or IndentStyle(False)
        indent += "\t" if style.tabs else " " * style.width
    return attrs.evolve(place, prefix=f"{written}\n{indent}")


def _shape(
    question: Question, response: CompletionResponse | None, rejected: tuple[str, ...]
) -> tuple[str, ...]:
    """What may be shown of an answer, the best first."""
    if response is None:
        return ()
    options = ShapeOptions(
        min_confidence=question.min_confidence, style=question.style, rejected=rejected
    )
    answers = [response, *(response.alternatives if question.explicit else ())]
    shaped = (shape(a.text, question.place, a.confidence, options) for a in answers)
    return tuple(dict.fromkeys(text for text in shaped if text))[:EXPLICIT_CANDIDATES]


def _key_of(request: CompletionRequest) -> bytes:
    """All that an answer depends on, in 16 bytes."""
    texts = [request.path, request.language, request.stop, request.prefix]
    texts += [request.suffix, f"{request.candidates} {request.max_new_tokens}"]
    texts += [f"{request.min_confidence} {request.min_part_confidence}"]
    for chunk in request.context:
        texts += [chunk.path, chunk.text]
    text = "\0".join(part or "" for part in texts)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def _log_defect(error: Exception) -> None:
    """Where a defect of ours is, without the values: they may hold a user's text."""
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s while completing:\n%s", type(error).__name__, where)

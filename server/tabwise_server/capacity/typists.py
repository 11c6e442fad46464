"""People who type, as a load: each asks after a keystroke, reads, types on.

Every user has a document of their own, with its own session, and asks as the language
server does. The next keystroke comes a random time after the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import attrs

from tabwise_server.backends.protocol import Backend
from tabwise_server.errors import TabwiseError
from tabwise_server.wire import CompletionRequest

SUFFIX_CHARS = 300


@attrs.frozen(kw_only=True)
class Typing:
    """keystrokes: of each user. pause_s: the mean between two, exponential.
    open_chars: of a document before its first keystroke. opening_s: over which users
    come, evenly."""

    users: int
    keystrokes: int
    pause_s: float = 1.0
    max_new_tokens: int = 16
    deadline_ms: float = 5_000.0
    open_chars: int = 3_000
    opening_s: float = 0.0
    seed: int = 1


@attrs.frozen(kw_only=True)
class Answer:
    """One keystroke's outcome. at, latency_s: seconds; at: since the load began.

    error: the class of what was raised, None for a completion.
    """

    user: int
    at: float
    latency_s: float
    error: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0


@attrs.frozen(kw_only=True)
class Summary:
    """Milliseconds over what succeeded; cached: share of prompt tokens."""

    requests: int
    failed: dict[str, int]
    per_second: float
    median_ms: float
    p95_ms: float
    p99_ms: float
    cached: float
    tokens: int


class LoadFailed(TabwiseError):
    """No figure can be taken of a load that nobody answered."""


async def type_all(
    open_client: Callable[[], Backend],
    source: str,
    typing: Typing,
    enough: asyncio.Event | None = None,
) -> list[Answer]:
    """The answers to every keystroke of all users, by the time of asking.

    source: code to type; user n begins a little further on than user n - 1.
    enough: once set, nobody asks again.
    """
    enough = enough or asyncio.Event()
    began = time.monotonic()
    users = (
        _type(_User(user, open_client(), source, typing), typing, began, enough)
        for user in range(typing.users)
    )
    answers = itertools.chain.from_iterable(await asyncio.gather(*users))
    return sorted(answers, key=lambda one: one.at)


def document_of(source: str, user: int, typing: Typing) -> str:
    """What `user` has in the editor when they have typed everything."""
    length = typing.open_chars + typing.keystrokes + SUFFIX_CHARS
    start = user * 97 % max(1, len(source) - length)
    return source[start : start + length]


def summarise(answers: Sequence[Answer]) -> Summary:
    """Raises LoadFailed if nothing succeeded."""
    good = [one for one in answers if one.error is None]
    failed = Counter(one.error for one in answers if one.error is not None)
    if not good:
        raise LoadFailed(f"not one request succeeded: {dict(failed)}")
    times = sorted(one.latency_s * 1000 for one in good)
    span = max(one.at + one.latency_s for one in answers) - answers[0].at
    prompt = sum(one.prompt_tokens for one in good)
    return Summary(
        requests=len(answers),
        failed=dict(failed),
        per_second=round(len(answers) / span, 1),
        median_ms=round(statistics.median(times), 1),
        p95_ms=round(quantile(times, 0.95), 1),
        p99_ms=round(quantile(times, 0.99), 1),
        cached=round(sum(one.cached_tokens for one in good) / max(prompt, 1), 4),
        tokens=sum(one.tokens for one in good),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


class _User:
    """One who types: their own client, and what they ask next."""

    def __init__(self, number: int, client: Backend, source: str, typing: Typing):
        self.number = number
        self.client = client
        self.dice = random.Random(f"{typing.seed} {number}")
        self._document = document_of(source, number, typing)
        self._typing = typing

    def requests(self) -> Iterator[CompletionRequest]:
        """One after each keystroke."""
        typing = self._typing
        opened = len(self._document) - typing.keystrokes - SUFFIX_CHARS
        for typed in range(typing.keystrokes):
            yield CompletionRequest(
                prefix=self._document[: opened + typed],
                suffix=self._document[-SUFFIX_CHARS:],
                session=f"user-{self.number}",
                max_new_tokens=typing.max_new_tokens,
                deadline_ms=typing.deadline_ms,
            )


async def _type(
    user: _User, typing: Typing, began: float, enough: asyncio.Event
) -> list[Answer]:
    answers = []
    try:
        await asyncio.sleep(typing.opening_s * user.number / typing.users)
        for request in user.requests():
            await asyncio.sleep(user.dice.expovariate(1 / typing.pause_s))
            if enough.is_set():
                break
            answers.append(await _ask(user, request, began))
    finally:
        await user.client.close()
    return answers


async def _ask(user: _User, request: CompletionRequest, began: float) -> Answer:
    asked = time.monotonic()
    try:
        answer = await user.client.complete(request)
    except TabwiseError as error:
        latency_s = time.monotonic() - asked
        name = type(error).__name__
        return Answer(
            user=user.number, at=asked - began, latency_s=latency_s, error=name
        )
    return Answer(
        user=user.number,
        at=asked - began,
        latency_s=time.monotonic() - asked,
        prompt_tokens=answer.prompt_tokens,
        cached_tokens=answer.cached_tokens,
        tokens=answer.tokens,
    )

"""Who asks during the fault run: people who type, some of whom leave, send nonsense or
too much, or read slowly. What is right for each kind is stated here."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import attrs

from tabwise_server.bench.faults.line import (
    Line,
    NoAnswer,
    NotOneAnswer,
    Reply,
    text_of_events,
)
from tabwise_server.bench.faults.outcomes import Kind, Ledger, Question
from tabwise_server.bench.users import Ask, asks, sources
from tabwise_server.lsp.session import options_of
from tabwise_server.settings import LspSettings
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.prompt import build_request
from tabwise_server.wire import unstructure

OURS, OPENAI = "/v1/tabwise/complete", "/v1/completions"
# Of all requests; the rest is asked as an editor asks, and waited for.
SHARES: dict[Kind, float] = {
    "left": 0.20,
    "malformed": 0.05,
    "oversize": 0.02,
    "slow": 0.02,
    "streamed": 0.06,
}
REFUSED_AS = {"malformed": (400, 422), "oversize": (413,)}
OVERSIZE = 2_050_000  # bytes: over the backend's limit, within the router's
MALFORMED = (
    b"{",
    b"\xff\xfe",
    b"[]",
    b'{"prefix": 5}',
    b'{"prefix": "x", "stop": "nowhere"}',
    b'{"prefix": "x", "max_new_tokens": 1e9}',
    b'{"suffix": "x"}',
)
JSON = ("application/json", "application/json; charset=utf-8")
LEAVE_WITHIN_S = 0.15
LATE_S = 5.0  # past the deadline, after which an answer is not waited for any more
LINES = 4  # connections of one person


class Person:
    """One who types, in a file of their own, with a key."""

    def __init__(
        self, number: int, url: str, key: str, ledger: Ledger, deadline_ms: float
    ) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._text = sources(number + 1)[number]
        self._dice = random.Random(number)
        self._session = f"file:///faults/{number}.py"
        self._headers = {
            "Authorization": f"Bearer {key}",
            "X-Tabwise-Session": f"faults-{number}",
            "X-Tabwise-Deadline-Ms": str(deadline_ms),
        }
        self._ledger = ledger
        self._deadline_ms = deadline_ms
        self._options = attrs.evolve(options_of(LspSettings()), deadline_ms=deadline_ms)
        self._names = (f"{number}-{n}" for n in itertools.count())
        self._idle = [Line(*self._address) for _ in range(LINES)]

    async def run(self, seconds: float) -> None:
        """Ask after each keystroke, whatever became of the last one."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        running: set[asyncio.Task[None]] = set()
        for ask in asks(self._text, seconds, self._dice):
            await asyncio.sleep(began + ask.at - loop.time())
            task = asyncio.create_task(self._ask(ask))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
        for line in self._idle:
            line.close()

    async def _ask(self, ask: Ask) -> None:
        kind = self._kind()
        path, body = self._request(kind, ask)
        name = next(self._names)
        headers = {**self._headers, "X-Request-Id": name}
        line = self._line(kind)
        if kind == "left":
            self._ledger.began(kind)
            await self._leave(line, path, headers, body)
            return
        with self._ledger.asked(kind, path, body) as question:
            try:
                async with asyncio.timeout(self._deadline_ms / 1000 + LATE_S):
                    reply = await line.ask(path, headers, body)
            except TimeoutError as error:
                raise NoAnswer("in time") from error
            _check(question, reply, name)
        if kind != "slow" and len(self._idle) < LINES:
            self._idle.append(line)
        else:
            line.close()

    async def _leave(
        self, line: Line, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        wait_s = self._dice.uniform(0, LEAVE_WITHIN_S)
        with contextlib.suppress(OSError):  # nobody waits for an answer
            await line.leave_after(wait_s, path, headers, body)

    def _kind(self) -> Kind:
        point = self._dice.random()
        for kind, share in SHARES.items():
            point -= share
            if point < 0:
                return kind
        return "plain"

    def _line(self, kind: Kind) -> Line:
        if kind == "slow":
            return Line(*self._address, slow=True)
        return self._idle.pop() if self._idle else Line(*self._address)

    def _request(self, kind: Kind, ask: Ask) -> tuple[str, bytes]:
        if kind == "malformed":
            return OURS, self._dice.choice(MALFORMED)
        place = Place(
            prefix=self._text[: ask.cursor],
            suffix=self._text[ask.after :],
            language="python",
        )
        wanted = unstructure(build_request(place, self._options, self._session))
        if kind == "oversize":
            return OURS, json.dumps({**wanted, "suffix": "x" * OVERSIZE}).encode()
        if kind in ("slow", "streamed"):
            return OPENAI, json.dumps(_streamed(wanted)).encode()
        return OURS, json.dumps(wanted).encode()


def people(
    count: int, url: str, keys: Sequence[str], ledger: Ledger, deadline_ms: float
) -> Iterator[Person]:
    for number in range(count):
        yield Person(number, url, keys[number % len(keys)], ledger, deadline_ms)


def _streamed(wanted: dict[str, object]) -> dict[str, object]:
    return {
        "prompt": wanted["prefix"],
        "suffix": wanted["suffix"],
        "max_tokens": 24,
        "temperature": 0,
        "stream": True,
    }


def _code(reply: Reply) -> str:
    """Of an error that a backend told; nothing for other answers."""
    if reply.status == 200 or reply.headers.get("content-type") not in JSON:
        return ""
    return str(json.loads(reply.body)["error"]["code"])


def _check(question: Question, reply: Reply, name: str) -> None:
    """Note the answer. Raises NotOneAnswer if it cannot be this request's."""
    kind = question.kind
    echoed = reply.headers.get("x-request-id")
    # the router, and a house that is full, name no request
    if echoed not in (name, None):
        raise NotOneAnswer(f"request {name} was answered as {echoed}")
    question.end = f"{reply.status} {_code(reply)}".strip()
    if kind in REFUSED_AS:
        question.right = reply.status in REFUSED_AS[kind]
        return
    if reply.status != 200:
        return
    if echoed != name:
        raise NotOneAnswer(f"request {name} was answered as {echoed}")
    if kind == "plain":
        question.answer(json.loads(reply.body)["text"])
    else:
        question.answer(text_of_events(reply.body))

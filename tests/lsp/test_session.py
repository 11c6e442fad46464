"""One document's requests: who wins, what is remembered, what reaches the backend."""

import asyncio
import doctest
from collections.abc import Callable

import pytest

from support.scripted_backend import response
from tabwise_server.backends.protocol import Health
from tabwise_server.errors import BackendUnavailable
from tabwise_server.lsp import session as session_module
from tabwise_server.lsp.session import Session, Shown, continue_shown
from tabwise_server.settings import LspSettings
from tabwise_server.suggest.place import Place
from tabwise_server.wire import CompletionRequest, CompletionResponse


class HeldBackend:
    """Answers each request when the test says so; counts what was cancelled."""

    def __init__(self, answer: Callable[[CompletionRequest], str]) -> None:
        self.answer = answer
        self.requests: list[CompletionRequest] = []
        self.cancelled: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def health(self) -> Health:
        return Health(ready=True, status="healthy")

    async def complete(self, request: CompletionRequest) -> CompletionResponse:
        self.requests.append(request)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request.prefix)
            raise
        if self.error is not None:
            raise self.error
        return response(self.answer(request))


@pytest.fixture
async def backend() -> HeldBackend:
    return HeldBackend(lambda request: "foo(bar)")


@pytest.fixture
def session(backend: HeldBackend) -> Session:
    return Session("doc", backend, LspSettings())


def at(prefix: str, suffix: str = "\n") -> Place:
    return Place(prefix=prefix, suffix=suffix, path="x.py")


async def settle() -> None:
    """Let every task run until all wait."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_worked_example_holds() -> None:
    assert doctest.testmod(session_module).failed == 0


async def test_the_newest_request_wins_and_the_older_is_answered_with_nothing(
    backend: HeldBackend, session: Session
) -> None:
    backend.gate.clear()
    older = asyncio.create_task(session.suggest(at("x = "), 5_000))
    await settle()
    newer = asyncio.create_task(session.suggest(at("y = "), 5_000))
    await settle()
    assert backend.cancelled == ["x = "]
    assert await older is None
    backend.gate.set()
    assert await newer == "foo(bar)"


async def test_two_requests_for_one_place_share_one_answer(
    backend: HeldBackend, session: Session
) -> None:
    backend.gate.clear()
    both = [asyncio.create_task(session.suggest(at("x = "), 5_000)) for _ in "ab"]
    await settle()
    backend.gate.set()
    assert await asyncio.gather(*both) == ["foo(bar)", "foo(bar)"]
    assert len(backend.requests) == 1


async def test_cancelling_one_of_two_leaves_the_work_and_both_end_it(
    backend: HeldBackend, session: Session
) -> None:
    backend.gate.clear()
    one, two = (
        asyncio.create_task(session.suggest(at("x = "), 5_000)) for _ in range(2)
    )
    await settle()
    one.cancel()
    await settle()
    assert backend.cancelled == []
    two.cancel()
    await settle()
    assert backend.cancelled == ["x = "]


async def test_typing_through_the_suggestion_does_not_ask_the_backend(
    backend: HeldBackend, session: Session
) -> None:
    assert await session.suggest(at("x = "), 5_000) == "foo(bar)"
    for typed in ("f", "fo", "foo(b", "fo"):
        rest = await session.suggest(at("x = " + typed), 5_000)
        assert typed + (rest or "") == "foo(bar)"
    assert len(backend.requests) == 1


async def test_what_was_accepted_is_not_offered_again(
    backend: HeldBackend, session: Session
) -> None:
    await session.suggest(at("x = "), 5_000)
    await session.suggest(at("x = foo(bar)"), 5_000)
    assert [r.prefix for r in backend.requests] == ["x = ", "x = foo(bar)"]


async def test_a_place_asked_before_is_answered_from_the_cache(
    backend: HeldBackend, session: Session
) -> None:
    for prefix in ("x = ", "y = ", "x = "):
        assert await session.suggest(at(prefix), 5_000) == "foo(bar)"
    assert len(backend.requests) == 2


async def test_the_same_prefix_before_other_code_is_asked_anew(
    backend: HeldBackend, session: Session
) -> None:
    await session.suggest(at("x = ", "\n"), 5_000)
    await session.suggest(at("x = ", "\n\ny = 1\n"), 5_000)
    assert len(backend.requests) == 2


async def test_forgetting_asks_again(backend: HeldBackend, session: Session) -> None:
    await session.suggest(at("x = "), 5_000)
    session.forget()
    await session.suggest(at("x = "), 5_000)
    assert len(backend.requests) == 2


async def test_patience_ends_in_nothing_and_stops_the_work(
    backend: HeldBackend, session: Session
) -> None:
    backend.gate.clear()
    assert await session.suggest(at("x = "), 1) is None
    await settle()
    assert backend.cancelled == ["x = "]


@pytest.mark.parametrize(
    "error", [BackendUnavailable("gone"), RuntimeError("a defect of ours")]
)
async def test_a_failure_is_no_suggestion_and_is_not_remembered(
    backend: HeldBackend, session: Session, error: Exception
) -> None:
    backend.error = error
    assert await session.suggest(at("x = "), 5_000) is None
    backend.error = None
    assert await session.suggest(at("x = "), 5_000) == "foo(bar)"


async def test_a_defect_is_logged_without_the_users_text(
    backend: HeldBackend, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    backend.error = ValueError("password = hunter2")
    await session.suggest(at("password = "), 5_000)
    assert "ValueError" in caplog.text
    assert "hunter2" not in caplog.text


async def test_an_older_requests_end_does_not_lose_a_newer_one_for_the_same_place(
    backend: HeldBackend, session: Session
) -> None:
    backend.gate.clear()
    first = asyncio.create_task(session.suggest(at("x = "), 5_000))
    await asyncio.sleep(0)
    second = asyncio.create_task(session.suggest(at("y = "), 5_000))
    third = asyncio.create_task(session.suggest(at("x = "), 5_000))
    await settle()
    fourth = asyncio.create_task(session.suggest(at("x = "), 5_000))
    await settle()
    backend.gate.set()
    answers = [await task for task in (first, second, third, fourth)]
    assert answers == [None, None, "foo(bar)", "foo(bar)"]


@pytest.mark.parametrize(
    ("prefix", "suffix", "rest"),
    [
        ("x = ", "\n", "foo(bar)"),
        ("x = foo(", "\n", "bar)"),
        ("x = foo(", ")\n", "bar"),  # the editor closed the bracket
        ("x = foo(bar)", "\n", None),  # nothing left
        ("x = fo ", "\n", None),
        ("x =", "\n", None),
        ("x = foo", "\nother\n", None),
        ("x = foo", "", None),
    ],
)
def test_a_shown_suggestion_goes_on_only_where_nothing_else_changed(
    prefix: str, suffix: str, rest: str | None
) -> None:
    shown = Shown("x = ", "\n", "foo(bar)")
    assert continue_shown(shown, at(prefix, suffix)) == rest

"""One document's requests: who wins, what is remembered, what reaches the backend."""

import asyncio
import doctest
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from support.scripted_backend import response
from tabwise_server.backends.protocol import Health
from tabwise_server.errors import BackendUnavailable
from tabwise_server.lsp import memory as memory_module
from tabwise_server.lsp import session as session_module
from tabwise_server.lsp.memory import Shown, continue_shown
from tabwise_server.lsp.session import Question, Session
from tabwise_server.settings import LspSettings
from tabwise_server.suggest.levels import PARTS
from tabwise_server.suggest.place import Place
from tabwise_server.wire import (
    CompletionRequest,
    CompletionResponse,
    ContextChunk,
    FinishKind,
)


class HeldBackend:
    """Answers each request when the test says so; counts what was cancelled."""

    def __init__(self, answer: Callable[[CompletionRequest], str]) -> None:
        self.answer = answer
        self.requests: list[CompletionRequest] = []
        self.cancelled: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.finish: FinishKind = "line"

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
        return attrs.evolve(response(self.answer(request)), finish=self.finish)


@pytest.fixture
async def backend() -> HeldBackend:
    return HeldBackend(lambda request: "foo(bar)")


@pytest.fixture
def session(backend: HeldBackend) -> Session:
    return Session("doc", backend)


def at(prefix: str, suffix: str = "\n") -> Place:
    return Place(prefix=prefix, suffix=suffix, path="x.py")


async def suggest(
    session: Session, place: Place, patience_ms: float = 5_000, **options: Any
) -> str | None:
    """The best text; options are those of a Question."""
    question = Question(place=place, **{"settings": LspSettings(), **options})
    found = await session.suggest(question, patience_ms)
    return found[0].text if found else None


async def settle() -> None:
    """Let every task run until all wait."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_worked_example_holds() -> None:
    assert doctest.testmod(session_module).failed == 0
    assert doctest.testmod(memory_module).failed == 0


async def test_the_newest_request_wins_and_the_older_is_answered_with_nothing(
    backend: HeldBackend, session: Session
) -> None:
    backend.gate.clear()
    older = asyncio.create_task(suggest(session, at("x = ")))
    await settle()
    newer = asyncio.create_task(suggest(session, at("y = ")))
    await settle()
    assert backend.cancelled == ["x = "]
    assert await older is None
    backend.gate.set()
    assert await newer == "foo(bar)"


async def test_two_requests_for_one_place_share_one_answer(
    backend: HeldBackend, session: Session
) -> None:
    backend.gate.clear()
    both = [asyncio.create_task(suggest(session, at("x = "))) for _ in "ab"]
    await settle()
    backend.gate.set()
    assert await asyncio.gather(*both) == ["foo(bar)", "foo(bar)"]
    assert len(backend.requests) == 1


async def test_cancelling_one_of_two_leaves_the_work_and_both_end_it(
    backend: HeldBackend, session: Session
) -> None:
    backend.gate.clear()
    one, two = (asyncio.create_task(suggest(session, at("x = "))) for _ in range(2))
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
    assert await suggest(session, at("x = ")) == "foo(bar)"
    for typed in ("f", "fo", "foo(b", "fo"):
        rest = await suggest(session, at("x = " + typed))
        assert typed + (rest or "") == "foo(bar)"
    assert len(backend.requests) == 1


async def test_what_was_accepted_is_not_offered_again(
    backend: HeldBackend, session: Session
) -> None:
    await suggest(session, at("x = "))
    await suggest(session, at("x = foo(bar)"))
    assert [r.prefix for r in backend.requests] == ["x = ", "x = foo(bar)"]


async def test_a_place_asked_before_is_answered_from_the_cache(
    backend: HeldBackend, session: Session
) -> None:
    for prefix in ("x = ", "y = ", "x = "):
        assert await suggest(session, at(prefix)) == "foo(bar)"
    assert len(backend.requests) == 2


async def test_the_same_prefix_before_other_code_is_asked_anew(
    backend: HeldBackend, session: Session
) -> None:
    await suggest(session, at("x = ", "\n"))
    await suggest(session, at("x = ", "\n\ny = 1\n"))
    assert len(backend.requests) == 2


async def test_forgetting_asks_again(backend: HeldBackend, session: Session) -> None:
    await suggest(session, at("x = "))
    session.forget()
    await suggest(session, at("x = "))
    assert len(backend.requests) == 2


async def test_patience_ends_in_nothing_and_stops_the_work(
    backend: HeldBackend, session: Session
) -> None:
    backend.gate.clear()
    assert await suggest(session, at("x = "), 1) is None
    await settle()
    assert backend.cancelled == ["x = "]


@pytest.mark.parametrize(
    "error", [BackendUnavailable("gone"), RuntimeError("a defect of ours")]
)
async def test_a_failure_is_no_suggestion_and_is_not_remembered(
    backend: HeldBackend, session: Session, error: Exception
) -> None:
    backend.error = error
    assert await suggest(session, at("x = ")) is None
    backend.error = None
    assert await suggest(session, at("x = ")) == "foo(bar)"


async def test_a_defect_is_logged_without_the_users_text(
    backend: HeldBackend, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    backend.error = ValueError("password = hunter2")
    await suggest(session, at("password = "))
    assert "ValueError" in caplog.text
    assert "hunter2" not in caplog.text


async def test_an_older_requests_end_does_not_lose_a_newer_one_for_the_same_place(
    backend: HeldBackend, session: Session
) -> None:
    backend.gate.clear()
    first = asyncio.create_task(suggest(session, at("x = ")))
    await asyncio.sleep(0)
    second = asyncio.create_task(suggest(session, at("y = ")))
    third = asyncio.create_task(suggest(session, at("x = ")))
    await settle()
    fourth = asyncio.create_task(suggest(session, at("x = ")))
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


async def test_deleting_back_into_what_was_shown_is_answered_from_memory(
    backend: HeldBackend, session: Session
) -> None:
    assert await suggest(session, at("x = ")) == "foo(bar)"
    backend.answer = lambda request: "z()"
    assert await suggest(session, at("x = fz")) == "z()"
    assert await suggest(session, at("x = f")) == "oo(bar)"
    assert await suggest(session, at("x = ")) == "foo(bar)"
    assert len(backend.requests) == 2


async def test_what_was_accepted_and_undone_is_not_offered_again(
    backend: HeldBackend, session: Session
) -> None:
    assert await suggest(session, at("x = ")) == "foo(bar)"
    backend.answer = lambda request: "o(bar)" if "fo" in request.prefix else "foo(bar)"
    assert await suggest(session, at("x = foo(bar)")) is None
    assert await suggest(session, at("x = ")) is None
    assert await suggest(session, at("x = fo")) is None
    backend.answer = lambda request: "other()"
    session.forget()
    assert await suggest(session, at("x = ")) == "other()"


async def test_what_was_rejected_is_not_offered_there_again_but_elsewhere(
    backend: HeldBackend, session: Session
) -> None:
    question = Question(place=at("x = "), settings=LspSettings())
    [found] = await session.suggest(question, 5_000)
    session.memory.reject(found.shown)
    assert await suggest(session, at("x = ")) is None
    assert await suggest(session, at("y = ")) == "foo(bar)"


async def test_the_next_line_is_asked_for_while_one_is_shown(
    backend: HeldBackend, session: Session
) -> None:
    place = at("def f():\n    if ", "\n")
    backend.answer = lambda request: "x:" if request.prefix.endswith("if ") else "y()"
    assert await suggest(session, place, prefetch=True) == "x:"
    await settle()
    assert backend.requests[-1].prefix == "def f():\n    if x:\n        "
    # typing through it leaves the prefetch alone, and Enter is answered at once
    assert await suggest(session, at("def f():\n    if x"), prefetch=True) == ":"
    taken = at("def f():\n    if x:\n        ")
    assert await suggest(session, taken) == "y()"
    assert len(backend.requests) == 2


async def test_behind_the_beginning_of_a_line_its_rest_is_asked_for(
    backend: HeldBackend, session: Session
) -> None:
    backend.answer = lambda asked: "(b)" if asked.prefix.endswith("call") else "call"
    backend.finish = "part"
    assert await suggest(session, at("x = "), prefetch=True) == "call"
    await settle()
    assert backend.requests[-1].prefix == "x = call"
    assert backend.requests[-1].min_part_confidence == PARTS["balanced"]
    assert await suggest(session, at("x = call")) == "(b)"
    assert len(backend.requests) == 2


async def test_a_prefetch_gives_way_to_what_is_asked(
    backend: HeldBackend, session: Session
) -> None:
    await suggest(session, at("x = "), prefetch=True)
    backend.gate.clear()
    await settle()
    asked = asyncio.create_task(suggest(session, at("other = ")))
    await settle()
    assert backend.cancelled == ["x = foo(bar)\n"]
    backend.gate.set()
    assert await asked == "foo(bar)"


async def test_a_prefetch_on_its_way_is_joined(
    backend: HeldBackend, session: Session
) -> None:
    await suggest(session, at("x = "), prefetch=True)
    backend.gate.clear()
    await settle()
    asked = asyncio.create_task(suggest(session, at("x = foo(bar)\n")))
    await settle()
    backend.gate.set()
    assert await asked == "foo(bar)"
    assert len(backend.requests) == 2


async def test_nothing_is_prefetched_in_the_middle_of_a_line(
    backend: HeldBackend, session: Session
) -> None:
    await suggest(session, at("f(", ", b)\n"), prefetch=True)
    await settle()
    assert len(backend.requests) == 1


CHUNK = (ContextChunk(path="other.py", text="def foo(): ...\n"),)


@pytest.mark.parametrize(
    "changed",
    [
        {"context": CHUNK},
        {"explicit": True},
        {"settings": LspSettings(level="eager")},
        {"settings": LspSettings(max_new_tokens=9)},
    ],
)
async def test_an_answer_from_the_cache_is_one_to_the_same_question(
    backend: HeldBackend, session: Session, changed: dict[str, Any]
) -> None:
    await suggest(session, at("x = "))
    session.memory.forget()
    await suggest(session, at("x = "))
    assert len(backend.requests) == 1
    session.memory.forget()
    await suggest(session, at("x = "), **changed)
    assert len(backend.requests) == 2


async def test_in_the_middle_of_a_word_nobody_is_asked(
    backend: HeldBackend, session: Session
) -> None:
    assert await suggest(session, at("pri", "nt(x)\n")) is None
    assert backend.requests == []


@pytest.mark.parametrize("size", [999, 1_001, 100_000])
def test_of_a_large_document_only_the_text_near_the_cursor_is_kept(size: int) -> None:
    place = at("a" * size + "x = ", "\n" + "b" * size)
    shown = Shown.at(place, "foo(bar)")
    assert len(shown.prefix) + len(shown.suffix) <= 2_010
    typed = at("a" * size + "x = foo", "\n" + "b" * size)
    assert continue_shown(shown, typed) == "(bar)"
    assert continue_shown(shown, at("a" * size + "x = foo", "\n" + "b" * 9)) is None
    assert continue_shown(shown, at("a" * (size + 9) + "x = foo", place.suffix)) is None

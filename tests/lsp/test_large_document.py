"""A document of 20,000 lines, edited 30 times a second: every answer is right.

TABWISE_TYPING_SECONDS=60 types for as long as the figure in docs says.
"""

import asyncio
import os
import random
import statistics
import time

import pytest

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.wire import CompletionRequest

SECONDS = float(os.environ.get("TABWISE_TYPING_SECONDS", "3"))
CHANGES_A_SECOND = 30
LINES = 20_000
TYPED = ["x", "😀", "é", " = ", "(", "\n", "'", ")"]


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


class Reference:
    """The text as a list of lines, edited the plain way."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines = [f"value_{n} = '😀' + str({n})  # é" for n in range(LINES)]
        self.line, self.column = 0, 0

    def move(self) -> None:
        self.line = self.random.randrange(len(self.lines))
        self.column = self.random.randrange(len(self.lines[self.line]) + 1)

    @property
    def position(self) -> tuple[int, int]:
        """In UTF-16 units."""
        return self.line, utf16(self.lines[self.line][: self.column])

    def type(self, text: str) -> None:
        line = self.lines[self.line]
        whole = line[: self.column] + text + line[self.column :]
        self.lines[self.line : self.line + 1] = whole.split("\n")
        if "\n" in text:
            self.line, self.column = self.line + 1, 0
        else:
            self.column += len(text)

    def is_cut_at_the_cursor(self, request: CompletionRequest) -> bool:
        """Whether prefix and suffix are what stands around the cursor."""
        near = self.lines[max(self.line - 3, 0) : self.line]
        before = "\n".join([*near, self.lines[self.line][: self.column]])
        below = self.lines[self.line + 1 : self.line + 4]
        after = "\n".join([self.lines[self.line][self.column :], *below])
        return request.prefix.endswith(before) and request.suffix.startswith(after)


@pytest.mark.slow
@pytest.mark.timeout(60 + 3 * SECONDS)
async def test_thirty_changes_a_second_in_a_large_document_are_all_answered_right(
    environment: dict[str, str], backend: ScriptedBackend
) -> None:
    text, taken = Reference(1), []
    async with language_server(environment) as client:
        client.open(URI, "\n".join(text.lines))
        began = time.perf_counter()
        for number in range(int(SECONDS * CHANGES_A_SECOND)):
            if number % 10 == 0:
                text.move()
            at, typed = text.position, text.random.choice(TYPED)
            client.change(URI, number + 2, typed, at)
            text.type(typed)
            before = len(backend.requests)
            shown = await client.inline_completion(URI, text.position)
            taken.append(shown.latency_ms)
            assert shown.text in (None, "suggested()")
            if len(backend.requests) > before:
                assert text.is_cut_at_the_cursor(backend.requests[-1])
            late_s = began + (number + 1) / CHANGES_A_SECOND - time.perf_counter()
            await asyncio.sleep(max(late_s, 0))  # the pace is what is tried
        assert len(backend.requests) > len(taken) // 2
    assert time.perf_counter() - began < SECONDS * 1.5 + 10
    ordered = sorted(taken)
    print(
        f"{len(taken)} changes: median {statistics.median(taken):.1f} ms, "
        f"95 % {ordered[int(0.95 * len(ordered))]:.1f} ms, most {ordered[-1]:.1f} ms"
    )

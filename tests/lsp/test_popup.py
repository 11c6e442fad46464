"""`textDocument/completion`: the suggestion as items of the popup."""

import doctest
from typing import Any

import pytest

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import LspClient
from tabwise_server.lsp import popup

Env = dict[str, str]
PATIENT = {"completionDeadlineMs": 5_000}


async def ask(client: LspClient, at: tuple[int, int]) -> Any:
    position = {"line": at[0], "character": at[1]}
    params = {"textDocument": {"uri": URI}, "position": position}
    return await client.request("textDocument/completion", params)


def test_the_worked_example_holds() -> None:
    assert doctest.testmod(popup).failed == 0


async def test_the_popup_gets_the_same_suggestion_as_one_replacing_item(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.answer = lambda request: "ggested(x)"
    async with language_server(environment, options=PATIENT) as client:
        client.open(URI, "y = 'é' + su\n")
        result = await ask(client, (0, 12))
        assert result["isIncomplete"] is True
        [item] = result["items"]
        assert item["textEdit"]["newText"] == item["filterText"] == "suggested(x)"
        assert item["textEdit"]["range"]["start"]["character"] == 10
        assert item["textEdit"]["range"]["end"]["character"] == 12
        assert item["insertTextMode"] == 1  # as it is: no second indentation
        assert item["sortText"] > "zzz"


async def test_a_block_and_its_first_line_are_two_items(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.answer = lambda request: "a = 1\n    return a"
    async with language_server(environment, options=PATIENT) as client:
        client.open(URI, "def f():\r\n    \r\n")
        items = (await ask(client, (1, 4)))["items"]
        kinds = [item["labelDetails"]["description"] for item in items]
        assert kinds == ["block", "whole line"]
        texts = [item["textEdit"]["newText"] for item in items]
        assert texts == ["a = 1\r\n    return a", "a = 1"]
        assert [item["label"] for item in items] == ["a = 1 …", "a = 1"]
        assert sorted(item["sortText"] for item in items) == [
            item["sortText"] for item in items
        ]


@pytest.mark.parametrize(
    ("before", "text", "expected"),
    [
        ("x = ", "f(a)", [("rest of line", "f(a)")]),
        ("    ", "f(a)", [("whole line", "f(a)")]),
        ("def f():", "\n    pass", [("block", "\n    pass")]),
        (
            "if a:",
            " b()\n    c()",
            [("block", " b()\n    c()"), ("rest of line", " b()")],
        ),
    ],
)
def test_each_item_is_a_piece_of_its_own(
    before: str, text: str, expected: list[tuple[str, str]]
) -> None:
    assert list(popup.parts(before, text)) == expected


async def test_the_popup_never_waits_beyond_its_deadline(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.gate.clear()
    options = {"completionDeadlineMs": 50}
    async with language_server(environment, options=options) as client:
        client.open(URI, "y = ")
        assert await ask(client, (0, 4)) == {"isIncomplete": True, "items": []}
        await backend.wait_for(lambda: backend.cancelled == 1)

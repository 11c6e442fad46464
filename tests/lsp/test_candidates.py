"""What is asked: candidates, context, indentation, notebooks, folders."""

from typing import Any

import attrs
import pytest

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import LspClient, inline_params
from tabwise_server.wire import Alternative

Env = dict[str, str]
OTHER = "file:///project/geometry.py"
GEOMETRY = """\
class Rectangle:
    def __init__(self, width, height):
        self.width, self.height = width, height

    def area_of_rectangle(self):
        return self.width * self.height
"""
USE = "from geometry import Rectangle\n\nrectangle = Rectangle(width=1, height=2)\n"


def alternative(text: str, confidence: float) -> Alternative:
    return Alternative(
        text=text,
        finish="line",
        tokens=2,
        mean_logprob=-1,
        min_logprob=-1,
        confidence=confidence,
    )


async def texts(client: LspClient, at: tuple[int, int], **context: Any) -> list[str]:
    """What is offered at a place; context is the request's."""
    params = {**inline_params(URI, at), "context": {"triggerKind": 2, **context}}
    items = await client.request("textDocument/inlineCompletion", params)
    return [item["insertText"] for item in items or []]


async def test_asked_for_it_offers_up_to_three_distinct_ones_sure_or_not(
    environment: Env, backend: ScriptedBackend
) -> None:
    found = [alternative(text, 0.1) for text in ("one()", "two()", "one()", "three()")]
    backend.finish = lambda response: attrs.evolve(
        response, text="one()", confidence=0.06, alternatives=found
    )
    environment = {**environment, "TABWISE_LSP_MIN_CONFIDENCE": "0.5"}
    async with language_server(environment) as client:
        client.open(URI, "x = \n")
        assert await texts(client, (0, 4)) == []
        assert backend.requests[-1].candidates == 1
        assert backend.requests[-1].min_confidence == 0.5
        assert await texts(client, (0, 4), triggerKind=1) == [
            "one()",
            "two()",
            "three()",
        ]
        assert backend.requests[-1].candidates == 3
        assert backend.requests[-1].min_confidence == 0.05
        # typing through any of them goes on with it
        client.change(URI, 2, "tw", (0, 4))
        assert await texts(client, (0, 6)) == ["o()"]
        assert len(backend.requests) == 2


async def test_each_item_has_an_id_of_its_own_in_its_command(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = \ny = \n")
        ids = set()
        for line in (0, 1, 0):
            items = await client.request(
                "textDocument/inlineCompletion", inline_params(URI, (line, 4))
            )
            assert items[0]["command"]["command"] == "tabwise.accepted"
            ids.add(items[0]["command"]["arguments"][0])
        assert len(ids) == 3


async def test_other_open_documents_help_until_they_are_closed(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(
        environment, rootUri="file:///project", options={"contextChars": 2_000}
    ) as client:
        client.open(OTHER, GEOMETRY)
        client.open("file:///project/.env", "Rectangle = 'secret width height'\n")
        client.open(URI, USE + "print(rectangle.\n")
        await texts(client, (3, 16))
        chunks = backend.requests[-1].context
        assert [chunk.path for chunk in chunks] == ["geometry.py"]
        assert "area_of_rectangle" in chunks[0].text
        closed = {"textDocument": {"uri": OTHER}}
        client.notify("textDocument/didClose", closed)
        client.change(URI, 2, "a", (3, 16))
        client.change(URI, 3, "(", (3, 17))
        await texts(client, (3, 18))
        assert backend.requests[-1].context == []


async def test_the_editors_tabs_are_used_where_the_document_shows_none(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.answer = lambda request: "a = 1\n    if a:\n        b()"
    async with language_server(environment) as client:
        client.open(URI, "def f():\n\t\n")
        options = {"tabSize": 4, "insertSpaces": False}
        params = {**inline_params(URI, (1, 1)), "formattingOptions": options}
        items = await client.request("textDocument/inlineCompletion", params)
        assert items[0]["insertText"] == "a = 1\n\tif a:\n\t\tb()"


@pytest.mark.parametrize(
    "options", [3, {}, {"tabSize": "4"}, {"tabSize": -1, "insertSpaces": True}]
)
async def test_formatting_options_that_make_no_sense_are_passed_over(
    environment: Env, backend: ScriptedBackend, options: Any
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = \n")
        params = {**inline_params(URI, (0, 4)), "formattingOptions": options}
        items = await client.request("textDocument/inlineCompletion", params)
        assert items[0]["insertText"] == "suggested()"


async def test_the_popups_selected_item_is_gone_on_with(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.answer = lambda request: "(sep)"
    span = {
        "start": {"line": 0, "character": 9},
        "end": {"line": 0, "character": 11},
    }
    async with language_server(environment) as client:
        client.open(URI, "x = '😀'.jo\n")
        selected = {"range": span, "text": "join"}
        found = await texts(client, (0, 11), selectedCompletionInfo=selected)
        assert backend.requests[-1].prefix == "x = '😀'.join"
        assert found == ["join(sep)"]


async def test_the_cells_above_come_before_a_notebooks_cell(
    environment: Env, backend: ScriptedBackend
) -> None:
    book = "file:///project/book.ipynb"
    cells = [f"vscode-notebook-cell:/project/book.ipynb#{n}" for n in "abc"]
    items = [
        {"uri": uri, "languageId": language, "version": 1, "text": text}
        for uri, language, text in zip(
            cells,
            ("python", "markdown", "python"),
            ("import os\n%time", "Title", "%cd x\nos."),
            strict=True,
        )
    ]
    structure = [
        {"kind": 1 if item["languageId"] == "markdown" else 2, "document": item["uri"]}
        for item in items
    ]
    async with language_server(environment) as client:
        client.notify(
            "notebookDocument/didOpen",
            {
                "notebookDocument": {
                    "uri": book,
                    "notebookType": "jupyter-notebook",
                    "version": 1,
                    "cells": structure,
                },
                "cellTextDocuments": items,
            },
        )
        shown = await client.inline_completion(cells[2], (1, 3))
        assert shown.text == "suggested()"
        assert backend.requests[-1].prefix == (
            "import os\n# %time\n\n# Title\n\n# %cd x\nos."
        )
        # the first cell is edited, the second deleted
        change = {
            "structure": {
                "array": {"start": 1, "deleteCount": 1},
                "didClose": [{"uri": cells[1]}],
            },
            "textContent": [
                {
                    "document": {"uri": cells[0], "version": 2},
                    "changes": [{"text": "import sys"}],
                }
            ],
        }
        client.notify(
            "notebookDocument/didChange",
            {
                "notebookDocument": {"uri": book, "version": 2},
                "change": {"cells": change},
            },
        )
        await client.inline_completion(cells[2], (1, 3))
        assert backend.requests[-1].prefix == "import sys\n\n# %cd x\nos."


async def test_a_path_is_told_from_the_innermost_folder_of_several(
    environment: Env, backend: ScriptedBackend
) -> None:
    folders = [
        {"uri": f"file:///{name}", "name": name} for name in ("one", "two/inner", "two")
    ]
    paths = {
        "file:///one/a/b.py": "a/b.py",
        "file:///two/inner/c.py": "c.py",
        "file:///two/d.py": "d.py",
        "file:///elsewhere/e.py": "e.py",
    }
    async with language_server(environment, workspaceFolders=folders) as client:
        for uri, path in paths.items():
            client.open(uri, "x = ")
            await client.inline_completion(uri, (0, 4))
            assert backend.requests[-1].path == path
        event = {"added": [], "removed": [folders[0]]}
        client.notify("workspace/didChangeWorkspaceFolders", {"event": event})
        client.change("file:///one/a/b.py", 2, "y = x", (0, 0), (0, 4))
        await client.inline_completion("file:///one/a/b.py", (0, 4))
        assert backend.requests[-1].path == "b.py"


async def test_the_next_line_is_prefetched_if_so_set(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment, options={"prefetch": True}) as client:
        client.open(URI, "if x:\n    \n")
        assert await texts(client, (1, 4)) == ["suggested()"]
        await backend.wait_for(lambda: len(backend.requests) == 2)
        assert backend.requests[1].prefix == "if x:\n    suggested()\n    "


async def test_the_document_in_focus_is_looked_into_first(
    environment: Env, backend: ScriptedBackend
) -> None:
    options = {"contextChars": len(GEOMETRY) + 20}
    uris = [f"file:///project/geometry_{name}.py" for name in "ab"]
    async with language_server(environment, options=options) as client:
        for uri in uris:
            client.open(uri, GEOMETRY)
        client.open(URI, USE + "print(rectangle.\n")
        focus = {"textDocument": {"uri": uris[0]}}
        client.notify("textDocument/didFocus", focus)
        await texts(client, (3, 16))
        [chunk] = backend.requests[-1].context
        assert chunk.path == "geometry_a.py"

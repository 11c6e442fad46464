"""Positions in every encoding, line endings, large documents."""

import pytest

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import inline_params

EMOJI_LINE = "s = '😀é' + "
# units before the cursor at the end of EMOJI_LINE
END = {"utf-8": 15, "utf-16": 12, "utf-32": 11}

Env = dict[str, str]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
async def test_emoji_tabs_and_line_endings_are_cut_at_the_right_character(
    environment: Env, backend: ScriptedBackend, encoding: str, ending: str
) -> None:
    text = ending.join(["def f():", "\t" + EMOJI_LINE, "\treturn s", ""])
    async with language_server(environment, encodings=[encoding]) as client:
        client.open(URI, text, language="text")
        column = 1 + END[encoding]
        shown = await client.inline_completion(URI, (1, column))
        assert shown.text == "suggested()"
        assert backend.requests[-1].prefix == "def f():\n\t" + EMOJI_LINE
        assert backend.requests[-1].suffix == "\n\treturn s\n"
        # edits are cut there too: an emoji typed, another one deleted
        client.change(URI, 2, "🎉", (1, column))
        two = {"utf-8": 4, "utf-16": 2, "utf-32": 1}[encoding]
        before = 1 + len("s = '")
        client.change(URI, 3, "", (1, before), (1, before + two))
        await client.inline_completion(URI, (1, column))
        assert backend.requests[-1].prefix == "def f():\n\ts = 'é' + 🎉"
        items = await client.request(
            "textDocument/inlineCompletion", inline_params(URI, (1, column))
        )
        assert items[0]["range"]["start"] == {"line": 1, "character": column}
        assert items[0]["range"]["end"] == {"line": 1, "character": column}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
async def test_twenty_thousand_lines_are_edited_and_completed_right(
    environment: Env, backend: ScriptedBackend, encoding: str
) -> None:
    lines = [f"x{i} = '😀' + str({i})" for i in range(20_000)]
    async with language_server(environment, encodings=[encoding]) as client:
        client.open(URI, "\r\n".join(lines))
        where = (15_000, len("x15000 = '") + len("😀'".encode()) + len(" + "))
        shift = {"utf-8": 0, "utf-16": 2, "utf-32": 3}[encoding]
        at = (where[0], where[1] - shift)
        for version, char in enumerate("ab(", start=2):
            client.change(URI, version, char, at)
            at = (at[0], at[1] + 1)
        shown = await client.inline_completion(URI, at)
        request = backend.requests[-1]
        assert request.prefix.endswith(lines[14_999] + "\nx15000 = '😀' + ab(")
        assert request.suffix.startswith("str(15000)\n" + lines[15_001])
        # what would grow together with `str` is not shown
        assert shown.text is None or not shown.text.endswith("d")


async def test_a_suggestion_takes_the_documents_line_endings(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.answer = lambda request: "a = 1\n    return a"
    async with language_server(environment) as client:
        client.open(URI, "def f():\r\n    \r\n")
        shown = await client.inline_completion(URI, (1, 4))
        assert shown.text == "a = 1\r\n    return a"


@pytest.mark.parametrize(
    ("uri", "at"),
    [
        ("file:///unknown.py", (0, 0)),
        (URI, (99, 0)),
    ],
)
async def test_unknown_documents_and_outside_positions_get_nothing(
    environment: Env, backend: ScriptedBackend, uri: str, at: tuple[int, int]
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        assert (await client.inline_completion(uri, at)).text is None
        assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"
        assert len(backend.requests) == 1

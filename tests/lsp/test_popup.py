"""`textDocument/completion`: the suggestion as items of the popup."""

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend

Env = dict[str, str]


async def test_the_popup_gets_the_same_suggestion_as_one_replacing_item(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.answer = lambda request: "ggested(x)"
    async with language_server(
        environment, options={"completionDeadlineMs": 5_000}
    ) as client:
        client.open(URI, "y = 'é' + su\n")
        position = {"line": 0, "character": 12}
        result = await client.request(
            "textDocument/completion",
            {"textDocument": {"uri": URI}, "position": position},
        )
        assert result["isIncomplete"] is True
        [item] = result["items"]
        assert item["textEdit"]["newText"] == item["filterText"] == "suggested(x)"
        assert item["textEdit"]["range"]["start"]["character"] == 10
        assert item["textEdit"]["range"]["end"]["character"] == 12
        assert item["sortText"] > "zzz"


async def test_the_popup_never_waits_beyond_its_deadline(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.gate.clear()
    async with language_server(
        environment, options={"completionDeadlineMs": 50}
    ) as client:
        client.open(URI, "y = ")
        result = await client.request(
            "textDocument/completion",
            {"textDocument": {"uri": URI}, "position": {"line": 0, "character": 4}},
        )
        assert result == {"isIncomplete": True, "items": []}
        await backend.wait_for(lambda: backend.cancelled == 1)

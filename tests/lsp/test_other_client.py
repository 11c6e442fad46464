"""A client that is not ours, pytest-lsp's, gets on with the server as well."""

import sys

from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

from support.language_server import URI
from support.scripted_backend import ScriptedBackend


async def test_pytest_lsps_client_gets_ghost_text_and_the_popups_item(
    environment: dict[str, str], backend: ScriptedBackend
) -> None:
    command = [sys.executable, "-m", "tabwise_server", "lsp"]
    config = ClientServerConfig(server_command=command, server_env=environment)
    client = await config.start()
    assert isinstance(client, LanguageClient)
    capabilities = client_capabilities("neovim")
    assert capabilities.text_document is not None
    capabilities.text_document.inline_completion = (
        types.InlineCompletionClientCapabilities()
    )
    await client.initialize_session(
        types.InitializeParams(
            capabilities=capabilities,
            initialization_options={"completion_deadline_ms": 5_000},
        )
    )
    item = types.TextDocumentItem(URI, "python", 1, "x = ")
    client.text_document_did_open(types.DidOpenTextDocumentParams(item))
    document, position = types.TextDocumentIdentifier(URI), types.Position(0, 4)
    ghost = await client.text_document_inline_completion_async(
        types.InlineCompletionParams(
            types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic),
            document,
            position,
        )
    )
    assert isinstance(ghost, list)
    assert ghost[0].insert_text == "suggested()"
    popup = await client.text_document_completion_async(
        types.CompletionParams(document, position)
    )
    assert isinstance(popup, types.CompletionList)
    assert popup.items[0].label == "suggested()"
    await client.shutdown_session()

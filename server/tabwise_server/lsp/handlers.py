"""The protocol's messages: each handler reads one, delegates, and answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
from lsprotocol import types

from tabwise_server.lsp import popup
from tabwise_server.lsp.acceptance import id_of
from tabwise_server.lsp.document import Document
from tabwise_server.lsp.insertion import Insertion
from tabwise_server.lsp.server import TabwiseLanguageServer
from tabwise_server.lsp.session import Suggestion
from tabwise_server.lsp.workspace import Notebook, NotebookCell
from tabwise_server.settings import Settings
from tabwise_server.suggest.indentation import IndentStyle

TRIGGERS = [".", "("]  # besides every identifier, which editors ask about themselves
ACCEPTED = "tabwise.accepted"
REJECTED = "tabwise.rejected"
STATUS = "tabwise.status"
MOST_COLUMNS = 16  # of a tab


def make_server(
    settings: Settings, complaints: Sequence[str] = ()
) -> TabwiseLanguageServer:
    """A server that answers all that is here; see TabwiseLanguageServer."""
    server = TabwiseLanguageServer(settings, complaints)
    _register(server)
    return server


def _register(server: TabwiseLanguageServer) -> None:
    """Tell pygls what is served; an option object is what makes it advertised."""
    for method, handler in _FEATURES.items():
        server.feature(method, _OPTIONS.get(method))(handler)
    server.command(ACCEPTED)(accepted)
    server.command(REJECTED)(rejected)
    server.command(STATUS)(status)
    raw = {method: _bound(server, handler) for method, handler in _RAW.items()}
    server.protocol.raw_notifications = MappingProxyType(raw)
    server.protocol.raw_inline = _bound(server, note_formatting)


def initialize(ls: TabwiseLanguageServer, params: types.InitializeParams) -> None:
    ls.configuration.initialize(params.initialization_options)
    window = params.capabilities.window
    ls.progress_bar.wanted = bool(window and window.work_done_progress)
    ls.take_folders()


def initialized(ls: TabwiseLanguageServer, params: types.InitializedParams) -> None:
    ls.configuration.refresh(ls.opened.folders)
    if _pulls(ls):
        ls.in_background(ls.pull_configuration())
    else:
        ls.apply_configuration()


# No notification's handler is `async`: pygls would keep its task for ever.
def did_change_configuration(
    ls: TabwiseLanguageServer, params: types.DidChangeConfigurationParams
) -> None:
    if _pulls(ls):
        ls.in_background(ls.pull_configuration())
    elif isinstance(params.settings, Mapping):
        section = params.settings.get("tabwise", params.settings)
        ls.push_configuration(section, {})


def did_change_folders(
    ls: TabwiseLanguageServer, params: types.DidChangeWorkspaceFoldersParams
) -> None:
    ls.take_folders()
    if _pulls(ls):
        ls.in_background(ls.pull_configuration())


def did_open(
    ls: TabwiseLanguageServer, params: types.DidOpenTextDocumentParams
) -> None:
    ls.open_document(params.text_document)


def did_change(
    ls: TabwiseLanguageServer, params: types.DidChangeTextDocumentParams
) -> None:
    document = ls.opened.documents.get(params.text_document.uri)
    if document is not None:
        _change(document, params.content_changes)


def did_close(
    ls: TabwiseLanguageServer, params: types.DidCloseTextDocumentParams
) -> None:
    ls.close_document(params.text_document.uri)


def did_open_notebook(
    ls: TabwiseLanguageServer, params: types.DidOpenNotebookDocumentParams
) -> None:
    notebook = params.notebook_document
    ls.opened.notebooks[notebook.uri] = Notebook([_cell(c) for c in notebook.cells])
    for item in params.cell_text_documents:
        ls.open_document(item)


def did_change_notebook(
    ls: TabwiseLanguageServer, params: types.DidChangeNotebookDocumentParams
) -> None:
    notebook = ls.opened.notebooks.get(params.notebook_document.uri)
    cells = params.change.cells
    if notebook is None or cells is None:
        return
    if cells.structure is not None:
        array = cells.structure.array
        end = array.start + array.delete_count
        notebook.cells[array.start : end] = [_cell(c) for c in array.cells or ()]
        for item in cells.structure.did_open or ():
            ls.open_document(item)
        for closed in cells.structure.did_close or ():
            ls.close_document(closed.uri)
    for change in cells.text_content or ():
        document = ls.opened.documents.get(change.document.uri)
        if document is not None:
            _change(document, change.changes)


def did_close_notebook(
    ls: TabwiseLanguageServer, params: types.DidCloseNotebookDocumentParams
) -> None:
    ls.opened.notebooks.pop(params.notebook_document.uri, None)
    for closed in params.cell_text_documents:
        ls.close_document(closed.uri)


async def inline_completion(
    ls: TabwiseLanguageServer, params: types.InlineCompletionParams
) -> list[types.InlineCompletionItem] | None:
    """Ghost text at the cursor; up to three where the user asked for it.

    An empty list says that nothing is to be shown here; null, that this question is
    moot. Neovim goes on showing what it has at null, even where that no longer fits.
    """
    began = time.perf_counter()
    uri, position = params.text_document.uri, params.position
    explicit = params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
    document = ls.opened.documents.get(uri)
    if document is None:
        return None
    question = ls.ask(uri, position, explicit)
    if question is None:
        return []
    settings = question.settings
    before = document.line_before(position.line, position.character)
    edit = Insertion.at(document, position, before, params.context)
    if edit.chosen != edit.replaced:
        question = attrs.evolve(question, place=edit.place_after(question.place))
    found = await ls.suggest(uri, question, settings.deadline_ms)
    if settings.statistics:
        latency_ms = (time.perf_counter() - began) * 1000
        ls.acceptance.took(document.language, latency_ms)
    if found is None:
        return None
    return [_inline_item(ls, uri, edit, one) for one in found]


async def completion(
    ls: TabwiseLanguageServer, params: types.CompletionParams
) -> types.CompletionList:
    """The same suggestion as items of the popup, for clients without ghost text."""
    nothing = types.CompletionList(is_incomplete=True, items=[])
    uri, position = params.text_document.uri, params.position
    question = ls.ask(uri, position)
    if question is None:
        return nothing
    patience_ms = question.settings.completion_deadline_ms
    found = await ls.suggest(uri, question, patience_ms)
    if not found:
        return nothing
    document = ls.opened.documents[uri]
    before = document.line_before(position.line, position.character)
    items = popup.items(document, position.line, before, found[0].text)
    return types.CompletionList(is_incomplete=True, items=list(items))


def accepted(ls: TabwiseLanguageServer, *arguments: Any) -> None:
    """A client runs an item's command once it was inserted."""
    if arguments and isinstance(arguments[0], str):
        ls.acceptance.accepted(arguments[0])


def rejected(ls: TabwiseLanguageServer, *arguments: Any) -> None:
    """A client says that the user turned items down: their ids."""
    for id in arguments:
        offer = ls.acceptance.rejected(id) if isinstance(id, str) else None
        session = ls.sessions.get(offer.uri) if offer else None
        if offer is not None and session is not None:
            session.memory.reject(offer.shown)


def status(ls: TabwiseLanguageServer, *arguments: Any) -> dict[str, Any]:
    """What `$/tabwise/status` said last, with the latency of now."""
    return attrs.asdict(ls.status.report)


def did_show(ls: TabwiseLanguageServer, params: Mapping[str, Any]) -> None:
    id = id_of(params.get("item"))
    if id is not None:
        ls.acceptance.shown(id)


def did_partially_accept(ls: TabwiseLanguageServer, params: Mapping[str, Any]) -> None:
    id, length = id_of(params.get("item")), params.get("acceptedLength")
    if id is not None and isinstance(length, int) and length > 0:
        ls.acceptance.partly(id, length)


def did_focus(ls: TabwiseLanguageServer, params: Mapping[str, Any]) -> None:
    uri = _uri_in(params)
    if uri is not None:
        ls.opened.use(uri)


def note_formatting(ls: TabwiseLanguageServer, params: Mapping[str, Any]) -> None:
    """Keep the editor's indentation, which LSP's own parameters have no place for."""
    document = ls.opened.documents.get(_uri_in(params) or "")
    options = params.get("formattingOptions")
    if document is None or not isinstance(options, Mapping):
        return
    size, spaces = options.get("tabSize"), options.get("insertSpaces")
    if isinstance(size, int) and 0 < size <= MOST_COLUMNS and isinstance(spaces, bool):
        document.style = IndentStyle(not spaces, size)


_FEATURES: Mapping[str, Any] = MappingProxyType(
    {
        types.INITIALIZE: initialize,
        types.INITIALIZED: initialized,
        types.WORKSPACE_DID_CHANGE_CONFIGURATION: did_change_configuration,
        types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: did_change_folders,
        types.TEXT_DOCUMENT_DID_OPEN: did_open,
        types.TEXT_DOCUMENT_DID_CHANGE: did_change,
        types.TEXT_DOCUMENT_DID_CLOSE: did_close,
        types.NOTEBOOK_DOCUMENT_DID_OPEN: did_open_notebook,
        types.NOTEBOOK_DOCUMENT_DID_CHANGE: did_change_notebook,
        types.NOTEBOOK_DOCUMENT_DID_CLOSE: did_close_notebook,
        types.TEXT_DOCUMENT_INLINE_COMPLETION: inline_completion,
        types.TEXT_DOCUMENT_COMPLETION: completion,
    }
)
_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        types.TEXT_DOCUMENT_INLINE_COMPLETION: types.InlineCompletionOptions(),
        types.TEXT_DOCUMENT_COMPLETION: types.CompletionOptions(
            trigger_characters=TRIGGERS
        ),
    }
)
# As other servers call them; LSP has no such notifications.
_RAW: Mapping[str, Any] = MappingProxyType(
    {
        "textDocument/didShowCompletion": did_show,
        "textDocument/didPartiallyAcceptCompletion": did_partially_accept,
        "textDocument/didFocus": did_focus,
    }
)


def _bound(server: TabwiseLanguageServer, handler: Any) -> Any:
    return lambda params: handler(server, params)


def _change(document: Document, changes: Any) -> None:
    for change in changes:
        if isinstance(change, types.TextDocumentContentChangePartial):
            start, end = change.range.start, change.range.end
            document.replace(
                (start.line, start.character), (end.line, end.character), change.text
            )
        else:
            document.replace_all(change.text)


def _inline_item(
    ls: TabwiseLanguageServer, uri: str, edit: Insertion, suggestion: Suggestion
) -> types.InlineCompletionItem:
    document = ls.opened.documents[uri]
    statistics = ls.settings_of(document).statistics
    offer = ls.acceptance.offer(uri, document.language, suggestion, statistics)
    return types.InlineCompletionItem(
        edit.chosen + suggestion.text.replace("\n", document.line_ending),
        range=edit.span,
        command=types.Command("Accepted", ACCEPTED, arguments=[offer.id]),
    )


def _cell(cell: types.NotebookCell) -> NotebookCell:
    return NotebookCell(cell.document, cell.kind == types.NotebookCellKind.Code)


def _uri_in(params: Mapping[str, Any]) -> str | None:
    document = params.get("textDocument")
    uri = document.get("uri") if isinstance(document, Mapping) else None
    return uri if isinstance(uri, str) else None


def _pulls(ls: TabwiseLanguageServer) -> bool:
    """Whether the client answers `workspace/configuration`."""
    workspace = ls.client_capabilities.workspace
    return bool(workspace and workspace.configuration)

"""The language server: protocol handlers only. They read, delegate and answer.

A failure becomes no suggestion and a `$/tabwise/status` notification, never a pop-up.
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import PurePath
from typing import Any, cast

import attrs
from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from tabwise_server import __version__
from tabwise_server.backends.choose import open_backend
from tabwise_server.backends.protocol import Backend, Status
from tabwise_server.lsp.document import Document
from tabwise_server.lsp.protocol import Protocol
from tabwise_server.lsp.session import Session
from tabwise_server.settings import Settings, override
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.positions import Encoding, PositionOutside
from tabwise_server.suggest.privacy import is_secret

logger = logging.getLogger(__name__)

STATUS = "$/tabwise/status"
LABEL_CHARS = 60
_LAST_WORD = re.compile(r"\w+$")
TRIGGERS = [".", "("]  # besides every identifier, which editors ask about themselves


class TabwiseLanguageServer(LanguageServer):
    """One editor's server: its open documents and its backend."""

    protocol: Protocol

    def __init__(self, settings: Settings) -> None:
        super().__init__("tabwise", __version__, protocol_cls=Protocol)
        self.settings = settings
        self.documents: dict[str, Document] = {}
        self.sessions: dict[str, Session] = {}
        self.backend: Backend = open_backend(settings.backend, self.show_status)
        self._status: Status | None = None
        self._starting: asyncio.Task[None] | None = None
        _register(self)

    def configure(self, options: Any) -> None:
        """Take a client's initializationOptions; a bad value is named in the log."""
        lsp, complaints = override("lsp", self.settings.lsp, options, "editor")
        for complaint in complaints:
            logger.warning("%s; keeping the default", complaint)
        self.settings = Settings(
            serve=self.settings.serve, lsp=lsp, backend=self.settings.backend
        )

    def start_backend(self) -> None:
        """Warm the backend up in the background, before the first keystroke."""
        if self.settings.lsp.enabled:
            self._starting = asyncio.create_task(self.backend.start())

    async def stop(self) -> None:
        """Close what is open; the shared daemon lives on."""
        if self._starting is not None:
            self._starting.cancel()
        for session in self.sessions.values():
            session.close()
        await self.backend.close()

    def show_status(self, status: Status) -> None:
        """Tell the client once for each change."""
        if status == self._status:
            return
        if self._status is not None and status.state == "ready":
            for session in self.sessions.values():
                session.forget()
        self._status = status
        logger.info("backend %s: %s", status.state, status.reason or "")
        if self.protocol.writer is not None:
            self.protocol.notify(
                STATUS, {"state": status.state, "reason": status.reason}
            )

    def report_server_error(self, error: Exception, source: Any) -> None:
        """pygls would show a pop-up."""
        logger.error("%s in a handler", type(error).__name__)

    def open_document(self, item: types.TextDocumentItem) -> None:
        path = to_fs_path(item.uri) if item.uri.startswith("file:") else item.uri
        encoding = cast(Encoding, _value_of(self.workspace.position_encoding))
        document = Document(item.text, encoding, path, item.language_id)
        self.close_document(item.uri)
        self.documents[item.uri] = document
        self.sessions[item.uri] = Session(item.uri, self.backend, self.settings.lsp)

    def close_document(self, uri: str) -> None:
        self.documents.pop(uri, None)
        session = self.sessions.pop(uri, None)
        if session is not None:
            session.close()

    def place_of(self, uri: str, position: types.Position) -> Place | None:
        """The cursor's place, None where nothing is to be suggested."""
        document = self.documents.get(uri)
        if document is None or not self.settings.lsp.enabled:
            return None
        if is_secret(document.path):
            return None
        try:
            place = document.place_at(position.line, position.character)
        except PositionOutside as error:
            logger.info("%s", error)
            return None
        return attrs.evolve(place, path=self._relative(document.path))

    async def suggest(self, uri: str, place: Place, patience_ms: float) -> str | None:
        """What to insert, with the document's own line endings; None for nothing, and
        for a document that has moved on meanwhile."""
        document = self.documents[uri]
        changes = document.changes
        text = await self.sessions[uri].suggest(place, patience_ms)
        if text is None or document.changes != changes:
            return None
        return text.replace("\n", document.line_ending)

    def _relative(self, path: str | None) -> str | None:
        """The path from the workspace's root, or the name alone."""
        root = self.workspace.root_path
        if path is None:
            return None
        if root is not None and PurePath(path).is_relative_to(root):
            return PurePath(path).relative_to(root).as_posix()
        return PurePath(path).name


def _register(server: TabwiseLanguageServer) -> None:
    """Tell pygls what is served; an option object is what makes it advertised."""
    feature = server.feature
    feature(types.INITIALIZE)(initialize)
    feature(types.INITIALIZED)(initialized)
    feature(types.TEXT_DOCUMENT_DID_OPEN)(did_open)
    feature(types.TEXT_DOCUMENT_DID_CHANGE)(did_change)
    feature(types.TEXT_DOCUMENT_DID_CLOSE)(did_close)
    feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())(
        inline_completion
    )
    feature(
        types.TEXT_DOCUMENT_COMPLETION,
        types.CompletionOptions(trigger_characters=TRIGGERS),
    )(completion)


def initialize(ls: TabwiseLanguageServer, params: types.InitializeParams) -> None:
    ls.configure(params.initialization_options)


def initialized(ls: TabwiseLanguageServer, params: types.InitializedParams) -> None:
    ls.start_backend()


def did_open(
    ls: TabwiseLanguageServer, params: types.DidOpenTextDocumentParams
) -> None:
    ls.open_document(params.text_document)


def did_change(
    ls: TabwiseLanguageServer, params: types.DidChangeTextDocumentParams
) -> None:
    document = ls.documents.get(params.text_document.uri)
    if document is None:
        return
    for change in params.content_changes:
        if isinstance(change, types.TextDocumentContentChangePartial):
            start, end = change.range.start, change.range.end
            document.replace(
                (start.line, start.character), (end.line, end.character), change.text
            )
        else:
            document.replace_all(change.text)


def did_close(
    ls: TabwiseLanguageServer, params: types.DidCloseTextDocumentParams
) -> None:
    ls.close_document(params.text_document.uri)


async def inline_completion(
    ls: TabwiseLanguageServer, params: types.InlineCompletionParams
) -> list[types.InlineCompletionItem] | None:
    """Ghost text at the cursor."""
    uri, position = params.text_document.uri, params.position
    place = ls.place_of(uri, position)
    if place is None:
        return None
    text = await ls.suggest(uri, place, ls.settings.lsp.deadline_ms)
    if text is None:
        return None
    column = ls.documents[uri].units(position.line, len(place.line_before))
    here = types.Position(position.line, column)
    return [types.InlineCompletionItem(text, range=types.Range(here, here))]


async def completion(
    ls: TabwiseLanguageServer, params: types.CompletionParams
) -> types.CompletionList:
    """The same suggestion as one item of the popup, for clients without ghost text."""
    nothing = types.CompletionList(is_incomplete=True, items=[])
    uri, position = params.text_document.uri, params.position
    place = ls.place_of(uri, position)
    if place is None:
        return nothing
    text = await ls.suggest(uri, place, ls.settings.lsp.completion_deadline_ms)
    if text is None:
        return nothing
    item = _item(ls.documents[uri], place, position.line, text)
    return types.CompletionList(is_incomplete=True, items=[item])


def _item(
    document: Document, place: Place, line: int, text: str
) -> types.CompletionItem:
    """An item that replaces the word left of the cursor, as clients filter by it.

    It sorts behind other servers' items, so that it never takes the first place from
    what the editor would have shown without it.
    """
    word = _LAST_WORD.search(place.line_before)
    beginning = word.group() if word else ""
    column = len(place.line_before)
    span = types.Range(
        types.Position(line, document.units(line, column - len(beginning))),
        types.Position(line, document.units(line, column)),
    )
    first_line = (beginning + text).splitlines()[0].strip()
    return types.CompletionItem(
        label=shorten(first_line),
        kind=types.CompletionItemKind.Text,
        detail="Tabwise",
        sort_text="~tabwise",
        filter_text=beginning + text,
        text_edit=types.TextEdit(span, beginning + text),
        insert_text_format=types.InsertTextFormat.PlainText,
        insert_text_mode=types.InsertTextMode.AsIs,
    )


def _value_of(kind: types.PositionEncodingKind | str | None) -> str:
    """pygls keeps a client's choice as it came: an enum, or its text."""
    return kind.value if isinstance(kind, types.PositionEncodingKind) else str(kind)


def shorten(text: str) -> str:
    """`text` at a popup's width."""
    return text if len(text) <= LABEL_CHARS else text[: LABEL_CHARS - 1] + "…"

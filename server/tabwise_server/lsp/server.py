"""The language server: one editor's open files, its options and its backend.

`handlers` reads the protocol's messages and calls this. A failure becomes no suggestion
and a `$/tabwise/status` notification, never a pop-up.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from tabwise_server import __version__
from tabwise_server.backends.choose import open_backend
from tabwise_server.backends.protocol import Backend, Status
from tabwise_server.errors import TabwiseError
from tabwise_server.lsp.acceptance import Acceptance
from tabwise_server.lsp.configuration import Configuration, folder_to_remember
from tabwise_server.lsp.document import Document
from tabwise_server.lsp.protocol import Protocol
from tabwise_server.lsp.reading import Reader
from tabwise_server.lsp.session import Question, Session, Suggestion
from tabwise_server.lsp.status import Progress, StatusKeeper
from tabwise_server.lsp.workspace import Workspace, path_of
from tabwise_server.settings import LspSettings, Settings
from tabwise_server.suggest.context import ContextOptions, budget
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.positions import Encoding, PositionOutside
from tabwise_server.wire import WorkspaceFolder

logger = logging.getLogger(__name__)

NO_WINDOW = 0  # tokens, before our own backend has said how many its model reads
NOTEBOOKS = types.NotebookDocumentSyncOptions(
    [types.NotebookDocumentFilterWithNotebook("*")]
)


class TabwiseLanguageServer(LanguageServer):
    """One editor's server."""

    protocol: Protocol

    def __init__(self, settings: Settings, complaints: Sequence[str] = ()) -> None:
        """complaints: what was wrong with the settings, for the user to read."""
        super().__init__(
            "tabwise",
            __version__,
            protocol_cls=Protocol,
            notebook_document_sync=NOTEBOOKS,
        )
        self.configuration = Configuration(settings, complaints)
        self.opened = Workspace()
        self.sessions: dict[str, Session] = {}
        self._salt = secrets.token_bytes(16)
        self.reader = Reader()
        self.acceptance = Acceptance()
        self.progress_bar = Progress(self._notify, self._create_progress)
        self.status = StatusKeeper(self._notify, self.progress_bar)
        self._backend_settings = settings.backend
        self.backend: Backend = open_backend(settings.backend, self.show_status)
        self._window: int | None = NO_WINDOW
        self._same_version = False  # as the backend, as far as it has told
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False

    def in_background(self, work: Any) -> None:
        """Run a coroutine; it ends with the server."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def apply_configuration(self) -> None:
        """Let the options hold that are set now; a changed backend is asked anew."""
        settings = self.configuration.backend()
        if settings != self._backend_settings:
            self._backend_settings = settings
            old, self.backend = self.backend, open_backend(settings, self.show_status)
            for session in self.sessions.values():
                session.use(self.backend)
            self.in_background(old.close())
            self._started, self._window = False, NO_WINDOW
            self._same_version = False
        if not self._started and self.configuration.lsp().enabled:
            self._started = True
            self.in_background(self.backend.start())
        for complaint in self.configuration.take_complaints():
            self.status.tell(f"Tabwise: {complaint}")

    async def pull_configuration(self) -> None:
        """Ask the editor for its section `tabwise`, as a whole and for each folder."""
        folders = list(self.opened.folders)
        scopes = [None, *(folder.as_uri() for folder in folders)]
        items = [types.ConfigurationItem(scope, "tabwise") for scope in scopes]
        try:
            found = await self.workspace_configuration_async(
                types.ConfigurationParams(items)
            )
        except Exception as error:  # noqa: BLE001  a client may refuse, as it likes
            logger.info("no configuration: %s", type(error).__name__)
            found = None
        if isinstance(found, Sequence) and len(found) == len(items):
            own = dict(zip(folders, found[1:], strict=True))
            self.configuration.push(found[0], own)
        self.apply_configuration()

    def push_configuration(self, options: Any, folders: Mapping[Path, Any]) -> None:
        self.configuration.push(options, folders)
        self.apply_configuration()

    def take_folders(self) -> None:
        """Note the folders that the workspace has now."""
        folders = [to_fs_path(uri) for uri in self.workspace.folders]
        if not folders and self.workspace.root_path:
            folders = [self.workspace.root_path]
        self.opened.folders = [Path(folder) for folder in folders if folder]

    async def stop(self) -> None:
        """Close what is open; the shared daemon lives on."""
        self.progress_bar.end()
        for session in self.sessions.values():
            session.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.acceptance.close()
        await self.backend.close()

    def show_status(self, status: Status) -> None:
        """Tell the client what the backend says, once for each change."""
        returned = self.status.take(status)
        if returned:
            for session in self.sessions.values():
                session.forget()
        first = status.state == "ready" and self._window == NO_WINDOW
        if first:
            self._window = None
        if first or returned:
            self._same_version = False
            self.in_background(self._look_at_backend())

    def report_server_error(self, error: Exception, source: Any) -> None:
        """pygls would show a pop-up."""
        logger.error("%s in a handler", type(error).__name__)

    def open_document(self, item: types.TextDocumentItem) -> None:
        encoding = cast(Encoding, _value_of(self.workspace.position_encoding))
        self.close_document(item.uri)
        path = path_of(item.uri)
        document = Document(item.text, encoding, path, item.language_id)
        self.opened.open(item.uri, document)
        name = self._session_name(item.uri)
        self.sessions[item.uri] = Session(name, self.backend, self.status.took)

    def close_document(self, uri: str) -> None:
        self.opened.close(uri)
        session = self.sessions.pop(uri, None)
        if session is not None:
            session.close()

    def settings_of(self, document: Document) -> LspSettings:
        """The options that hold for a document."""
        folder = self.opened.folder_of(document.path)
        path = self.opened.relative(document.path)
        return self.configuration.lsp(folder, document.language, path)

    def may_read(self, document: Document) -> bool:
        folder = self.opened.folder_of(document.path)
        return self.reader.may_read(document.path, folder, self.settings_of(document))

    def ask(
        self, uri: str, position: types.Position, explicit: bool = False
    ) -> Question | None:
        """The question at a position, None where nothing is to be suggested."""
        document = self.opened.documents.get(uri)
        if document is None:
            return None
        if self.configuration.refresh(self.opened.folders):
            self.apply_configuration()
        settings = self.settings_of(document)
        for complaint in self.configuration.take_complaints():
            self.status.tell(f"Tabwise: {complaint}")
        if not settings.enabled or not self.may_read(document):
            return None
        try:
            place = self.opened.place(uri, position.line, position.character)
        except PositionOutside as error:
            logger.info("%s", error)
            return None
        self.opened.use(uri)
        room = ContextOptions(max_chars=budget(settings.context_chars, self._window))
        choice = self.opened.context(uri, place, room, self.may_read)
        prefetch = settings.prefetch
        if prefetch is None:  # others wait for a server that many share
            prefetch = self._is_local
        return Question(
            place=place,
            settings=settings,
            context=choice.chunks,
            workspace=self._workspace_of(document, place, settings),
            style=document.style,
            explicit=explicit,
            prefetch=prefetch,
        )

    async def suggest(
        self, uri: str, question: Question, patience_ms: float
    ) -> list[Suggestion] | None:
        """What to insert; None where a change or a newer question made it moot."""
        document, session = self.opened.documents[uri], self.sessions[uri]
        changes = document.changes
        found = await session.suggest(question, patience_ms)
        newest = session.newest or question
        moot = not found and newest.place != question.place
        return None if moot or document.changes != changes else found

    def _session_name(self, uri: str) -> str:
        """What a document is called to backends: of one length however long its path,
        which nobody learns from it."""
        name = hashlib.blake2b(uri.encode(), key=self._salt, digest_size=16)
        return name.hexdigest()

    @property
    def _is_local(self) -> bool:
        """Whether the backend is the daemon of this user on this machine."""
        return self._backend_settings.url is None

    def _workspace_of(
        self, document: Document, place: Place, settings: LspSettings
    ) -> WorkspaceFolder | None:
        """What the daemon may copy from: nobody else learns of a folder, and an older
        daemon would not understand."""
        if not (self._is_local and self._same_version):
            return None
        return folder_to_remember(self.opened.folder_of(document.path), place, settings)

    async def _look_at_backend(self) -> None:
        """Learn the model's window; name a daemon of another version."""
        try:
            health = await self.backend.health()
        except TabwiseError as error:
            logger.info("no health: %s", error)
            return
        self._window = health.context_tokens
        self._same_version = health.version == __version__
        if self._is_local and health.version not in (None, __version__):
            reason = (
                f"the shared daemon is version {health.version}, this is "
                f"{__version__}; run: tabwise stop"
            )
            self.status.take(Status("ready", reason))
            self.status.tell(f"Tabwise: {reason}")

    def _notify(self, method: str, params: Any) -> None:
        if self.protocol.writer is not None:
            self.protocol.notify(method, params)

    def _create_progress(self, token: str) -> asyncio.Future[Any]:
        created: asyncio.Future[Any] = self.protocol.send_request_async(
            types.WINDOW_WORK_DONE_PROGRESS_CREATE,
            types.WorkDoneProgressCreateParams(token),
        )
        return created


def _value_of(kind: types.PositionEncodingKind | str | None) -> str:
    """pygls keeps a client's choice as it came: an enum, or its text."""
    return kind.value if isinstance(kind, types.PositionEncodingKind) else str(kind)

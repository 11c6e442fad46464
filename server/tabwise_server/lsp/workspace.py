"""All that the editor has open: documents, notebooks, folders; which of it may be read.

Knows no protocol beyond positions and URIs; asks nobody.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit

import attrs
from pygls.uris import to_fs_path

from tabwise_server.lsp.document import Document
from tabwise_server.suggest.context import (
    Choice,
    ContextOptions,
    OtherFile,
    choose_context,
)
from tabwise_server.suggest.notebook import Cell, place_in_cell
from tabwise_server.suggest.place import Place

OTHERS = 16  # files that context is taken from, the ones used last


@attrs.frozen
class NotebookCell:
    """uri: of its document. code: not prose."""

    uri: str
    code: bool


@attrs.define(eq=False)
class Notebook:
    """Cells in their order."""

    cells: list[NotebookCell]


@attrs.define(eq=False)
class _Seen:
    """A document as another's context, made once for each of its versions."""

    changes: int
    file: OtherFile


class Workspace:
    """Documents by URI, the one used last at the end."""

    def __init__(self) -> None:
        self.documents: OrderedDict[str, Document] = OrderedDict()
        self.notebooks: dict[str, Notebook] = {}
        self.folders: list[Path] = []
        self._seen: dict[str, _Seen] = {}
        self._choices: dict[str, Choice] = {}

    def open(self, uri: str, document: Document) -> None:
        self.close(uri)
        self.documents[uri] = document

    def close(self, uri: str) -> None:
        self.documents.pop(uri, None)
        self._seen.pop(uri, None)
        self._choices.pop(uri, None)

    def use(self, uri: str) -> None:
        """Note that the user is in this document now."""
        if uri in self.documents:
            self.documents.move_to_end(uri)

    def folder_of(self, path: str | None) -> Path | None:
        """The innermost of the workspace's folders that holds `path`."""
        if path is None:
            return None
        holding = [f for f in self.folders if PurePath(path).is_relative_to(f)]
        return max(holding, key=lambda folder: len(folder.parts), default=None)

    def relative(self, path: str | None) -> str | None:
        """The path from its folder, or the name alone."""
        if path is None:
            return None
        folder = self.folder_of(path)
        if folder is None:
            return PurePath(path).name
        return PurePath(path).relative_to(folder).as_posix()

    def place(self, uri: str, line: int, character: int) -> Place:
        """The cursor's place; in a notebook, the cells above come before it.

        Raises KeyError for a document that is not open, PositionOutside.
        """
        document = self.documents[uri]
        place = document.place_at(line, character)
        place = attrs.evolve(place, path=self.relative(document.path))
        notebook = self.notebook_of(uri)
        if notebook is None:
            return place
        uris = [cell.uri for cell in notebook.cells]
        above = notebook.cells[: uris.index(uri)]
        return place_in_cell([self._cell(cell) for cell in above], place)

    def notebook_of(self, uri: str) -> Notebook | None:
        for notebook in self.notebooks.values():
            if any(cell.uri == uri for cell in notebook.cells):
                return notebook
        return None

    def context(
        self,
        uri: str,
        place: Place,
        options: ContextOptions,
        readable: Callable[[Document], bool],
    ) -> Choice:
        """Chunks of other open documents for `place`, those that are `readable`."""
        others = self._others(uri, readable) if options.max_chars else []
        choice = choose_context(place, others, options, self._choices.get(uri))
        self._choices[uri] = choice
        return choice

    def _others(
        self, uri: str, readable: Callable[[Document], bool]
    ) -> Sequence[OtherFile]:
        """Most recently used first; not the cells of the same notebook."""
        notebook = self.notebook_of(uri)
        same = {cell.uri for cell in notebook.cells} if notebook else {uri}
        found: list[OtherFile] = []
        for other in reversed(self.documents):
            document = self.documents[other]
            if other not in same and readable(document):
                found.append(self._as_other(other, document))
            if len(found) == OTHERS:
                break
        return found

    def _as_other(self, uri: str, document: Document) -> OtherFile:
        seen = self._seen.get(uri)
        if seen is None or seen.changes != document.changes:
            file = OtherFile(
                path=self.relative(document.path) or uri,
                text=document.text,
                language=document.language,
                edits=document.edits,
            )
            seen = self._seen[uri] = _Seen(document.changes, file)
        return seen.file

    def _cell(self, cell: NotebookCell) -> Cell:
        document = self.documents.get(cell.uri)
        if document is None:
            return Cell("", None)
        return Cell(document.text, document.language if cell.code else None)


def path_of(uri: str) -> str:
    """A document's path; for one that is not a file (an unsaved one, a notebook's
    cell), the path in its URI, written as a file's: the rules on secret files, and the
    options of its folder, apply to it as well."""
    if uri.startswith("file:"):
        return to_fs_path(uri) or uri
    path = urlsplit(uri).path
    if not path.startswith("/"):
        return unquote(path) or uri
    return to_fs_path(f"file://{path}") or uri

"""The options in force for a document, and what is wrong with those that are not.

Layers: what the server started with (the user's tabwise.toml, environment, flags) <
the folder's tabwise.toml or pyproject.toml [tool.tabwise] < initializationOptions <
the editor's configuration < the same for the document's folder < `languages` < `files`.

A workspace is somebody else's text: its files may not say where code is sent, nor what
is logged, nor that less is kept private; one that is not trusted sets nothing.
"""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tabwise_server.errors import SettingsError
from tabwise_server.settings import (
    SCOPES,
    BackendSettings,
    LspSettings,
    Options,
    Settings,
)
from tabwise_server.settings_sources import (
    load_leniently,
    option_name,
    override,
    user_file,
)
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.privacy import matches
from tabwise_server.wire import MAX_PATTERNS, WorkspaceFolder

LOOK_AGAIN_S = 1.0
WORKSPACE_FILES = ("tabwise.toml", "pyproject.toml")
# Of the section `tabwise`, but the editor's own business.
CLIENT_SECTIONS = ("client", "server", "trace", "model")
NOT_FOR_WORKSPACES = ("trusted", "log_file", "log_level")
# Set for the whole folder they keep more private than the user does; for a part they
# could keep less.
PRIVATE = ("secret_patterns", "skip_ignored", "remember_workspace")
NOT_FOR_SCOPES = (*NOT_FOR_WORKSPACES, *PRIVATE)

Stamp = tuple[int, int] | None  # a file's time and size


@attrs.define
class _File:
    """A workspace's file as it was read last."""

    stamp: Stamp
    options: Any
    complaint: str | None = None


class Configuration:
    """What holds for each document. Changes of files are seen within a second."""

    def __init__(self, settings: Settings, complaints: Sequence[str] = ()) -> None:
        """complaints: what was wrong with where `settings` come from."""
        self._start = settings
        self._user_stamp = stamp_of(user_file())
        self._initial: Any = None
        self._pushed: Any = None
        self._folders: dict[Path, Any] = {}
        self._files: dict[Path, _File] = {}
        self._resolved: dict[tuple[Path | None, str | None, str], LspSettings] = {}
        self._looked = 0.0
        self._looked_in: frozenset[Path] = frozenset()
        self._complaints = list(complaints)
        self._told: set[str] = set()

    def initialize(self, options: Any) -> None:
        self._initial = options
        self._resolved.clear()

    def push(self, options: Any, folders: Mapping[Path, Any]) -> None:
        """Take the editor's section `tabwise`, as a whole and for each folder."""
        self._pushed, self._folders = options, dict(folders)
        self._resolved.clear()

    def take_complaints(self) -> list[str]:
        """What is wrong, each once."""
        new = [text for text in self._complaints if text not in self._told]
        self._told.update(new)
        self._complaints.clear()
        return list(dict.fromkeys(new))

    def refresh(self, folders: list[Path]) -> bool:
        """Look at the files again if a second has passed, or a folder has joined;
        whether any changed."""
        now = time.monotonic()
        if now - self._looked < LOOK_AGAIN_S and self._looked_in.issuperset(folders):
            return False
        self._looked, self._looked_in = now, frozenset(folders)
        changed = self._refresh_user_file()
        for folder in folders:
            for name in WORKSPACE_FILES:
                changed |= self._refresh_file(folder / name)
        if changed:
            self._resolved.clear()
        return changed

    def backend(self) -> BackendSettings:
        """Where completions come from; a workspace's files have no say in it."""
        settings = self._start.backend
        layers = [(self._initial, "initializationOptions")]
        if self.lsp().trusted:
            layers.append((self._pushed, "editor"))
        for options, source in layers:
            section = _section(options, "backend")
            settings, complaints = override("backend", settings, section, source)
            self._complain(complaints)
        return settings

    def lsp(
        self,
        folder: Path | None = None,
        language: str | None = None,
        path: str | None = None,
    ) -> LspSettings:
        """For a document of `language` at `path`, relative to its `folder`."""
        key = (folder, language, path or "")
        if key not in self._resolved:
            if len(self._resolved) > 1_000:
                self._resolved.clear()
            self._resolved[key] = self._resolve(folder, language, path or "")
        return self._resolved[key]

    def _resolve(
        self, folder: Path | None, language: str | None, path: str
    ) -> LspSettings:
        settings = self._start.lsp
        editor: list[tuple[Any, str]] = [
            (_section(self._initial, "lsp"), "initializationOptions"),
            (_section(self._pushed, "lsp"), "editor"),
        ]
        if folder is not None and folder in self._folders:
            section = _section(self._folders[folder], "lsp")
            editor.append((section, f"editor, {folder}"))
        users = self._overlay(settings, editor)
        narrowed = self._narrow(users, language, path)
        if folder is None or not users.trusted:
            return narrowed
        settings = self._overlay(self._with_files(settings, folder), editor)
        with_files = self._narrow(settings, language, path)
        enabled = narrowed.enabled and with_files.enabled  # what is off stays off
        return attrs.evolve(with_files, enabled=enabled)

    def _overlay(
        self, settings: LspSettings, layers: list[tuple[Any, str]]
    ) -> LspSettings:
        for options, source in layers:
            settings, complaints = override("lsp", settings, options, source)
            self._complain(complaints)
        return settings

    def _with_files(self, user: LspSettings, folder: Path) -> LspSettings:
        settings = user
        for name in WORKSPACE_FILES:
            file = self._files.get(folder / name)
            if file is None or file.options is None:
                continue
            options = file.options
            if isinstance(options, Mapping):
                file_path = folder / name
                options = self._without_refused(options, file_path, NOT_FOR_WORKSPACES)
            settings = self._overlay(settings, [(options, str(folder / name))])
        patterns = [*patterns_of(user), *patterns_of(settings)]
        return attrs.evolve(
            settings,
            skip_ignored=user.skip_ignored or settings.skip_ignored,
            remember_workspace=user.remember_workspace and settings.remember_workspace,
            secret_patterns=", ".join(dict.fromkeys(patterns)),
            languages=_both(settings.languages, user.languages),
            files=_both(settings.files, user.files),
        )

    def _without_refused(
        self, options: Mapping[str, Any], file: Path, refused: Sequence[str]
    ) -> Mapping[str, Any]:
        """`options` of a workspace's file without those that it has no say in."""
        kept = {}
        for name, value in options.items():
            key = option_name(name)
            if key in refused:
                self._complain([f"{name} cannot be set by {file}"])
            elif key in SCOPES and isinstance(value, Mapping):
                kept[key] = {
                    scope: self._without_refused(inner, file, NOT_FOR_SCOPES)
                    if isinstance(inner, Mapping)
                    else inner
                    for scope, inner in value.items()
                }
            else:
                kept[key] = value
        return kept

    def _narrow(
        self, settings: LspSettings, language: str | None, path: str
    ) -> LspSettings:
        """With the options for a language, then those for files of a pattern."""
        layers: list[tuple[Any, str]] = []
        if language is not None and language in settings.languages:
            layers.append((settings.languages[language], f"languages.{language}"))
        for pattern, options in settings.files.items():
            if matches(path, pattern):
                layers.append((options, f"files.{pattern!r}"))
        return self._overlay(settings, layers)

    def _refresh_user_file(self) -> bool:
        stamp = stamp_of(user_file())
        if stamp == self._user_stamp:
            return False
        self._user_stamp = stamp
        self._start, complaints = load_leniently(before=self._start)
        self._complain(complaints)
        return True

    def _refresh_file(self, path: Path) -> bool:
        stamp, known = stamp_of(path), self._files.get(path)
        if (known.stamp if known else None) == stamp:
            return False
        file = self._files[path] = _File(stamp, None)
        if stamp is not None:
            file.options = known.options if known else None  # if it is half written
            try:
                file.options = read_workspace_file(path)
            except SettingsError as error:
                self._complain([str(error)])
        return True

    def _complain(self, complaints: list[str]) -> None:
        self._complaints += complaints


def read_workspace_file(path: Path) -> Any:
    """[lsp] of a tabwise.toml, or [tool.tabwise] of a pyproject.toml, which may have
    [tool.tabwise.lsp]; None if there is none. Raises SettingsError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    if path.name == "pyproject.toml":
        tools = data.get("tool")
        data = tools.get("tabwise", {}) if isinstance(tools, dict) else {}
        return _section(data, "lsp")
    return data.get("lsp")


def patterns_of(settings: LspSettings) -> list[str]:
    """The user's own patterns of secret files."""
    return [p for p in re.split(r"[,\s]+", settings.secret_patterns) if p]


def folder_to_remember(
    folder: Path | None, place: Place, settings: LspSettings
) -> WorkspaceFolder | None:
    """What the user's own daemon may copy from for `place`, which is in `folder`."""
    unread = patterns_of(settings)
    wanted = settings.remember_workspace and settings.trusted and place.is_python
    if folder is None or not wanted or len(unread) > MAX_PATTERNS:
        return None
    return WorkspaceFolder(folder=str(folder), unread=unread)


def _section(options: Any, name: str) -> Any:
    """A section of an editor's options; those of [lsp] may stand at the top."""
    if not isinstance(options, Mapping):
        return options if name == "lsp" else None
    if name != "lsp":
        return options.get(name)
    sections = ("lsp", "backend", *CLIENT_SECTIONS)
    top = {k: v for k, v in options.items() if k not in sections}
    inner = options.get("lsp")
    return {**top, **(inner if isinstance(inner, Mapping) else {})}


def _both(workspace: Options, user: Options) -> Options:
    """The workspace's options for languages, or files, with the user's over them, and
    after them: the later pattern of a file wins."""
    names = [*(name for name in workspace if name not in user), *user]
    return {name: {**workspace.get(name, {}), **user.get(name, {})} for name in names}


def stamp_of(path: Path) -> Stamp:
    """Another one once the file has changed; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size

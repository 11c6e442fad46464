"""Which files are left alone: secret ones, those the user named, ignored ones."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TypeVar

from tabwise_server.lsp.configuration import Stamp, patterns_of, stamp_of
from tabwise_server.lsp.gitignore import Pattern, is_ignored, read_patterns
from tabwise_server.settings import LspSettings
from tabwise_server.suggest.privacy import is_secret, matches

T = TypeVar("T")

MOST_KEPT = 1_000  # files


class Reader:
    """Says what may be read; keeps what .gitignore files said until they change."""

    def __init__(self) -> None:
        self._patterns: dict[Path, tuple[Stamp, list[Pattern]]] = {}
        self._verdicts: dict[Path, tuple[list[Stamp], bool]] = {}

    def may_read(
        self, path: str | None, folder: Path | None, settings: LspSettings
    ) -> bool:
        """Whether text of the file at `path`, in the workspace's `folder`, may be
        completed in, looked into for other files, or sent."""
        if path is None:
            return True
        if is_secret(path):
            return False
        inside = folder is not None and PurePath(path).is_relative_to(folder)
        relative = PurePath(path).relative_to(folder or "") if inside else None
        name = relative.as_posix() if relative else PurePath(path).as_posix()
        if any(matches(name, pattern) for pattern in patterns_of(settings)):
            return False
        if not settings.skip_ignored or folder is None or relative is None:
            return True
        return not self.is_ignored(folder, relative)

    def is_ignored(self, folder: Path, relative: PurePath) -> bool:
        """Whether git would ignore the file, by the .gitignore files from the root of
        `folder`'s repository, or else from `folder`, to it."""
        root, file = _root_of(folder), folder / relative
        parts = file.relative_to(root).parts
        folders = [root.joinpath(*parts[:depth]) for depth in range(len(parts))]
        stamps = [stamp_of(each / ".gitignore") for each in folders]
        known = self._verdicts.get(file)
        if known is None or known[0] != stamps:
            patterns = [
                self._patterns_of(each / ".gitignore", stamp)
                for each, stamp in zip(folders, stamps, strict=True)
            ]
            known = (stamps, is_ignored(parts, patterns))
            _keep(self._verdicts, file, known)
        return known[1]

    def _patterns_of(self, file: Path, stamp: Stamp) -> list[Pattern]:
        if stamp is None:
            return []
        known = self._patterns.get(file)
        if known is None or known[0] != stamp:
            try:
                text = file.read_text(encoding="utf-8-sig", errors="replace")
            except OSError:
                return []
            known = (stamp, read_patterns(text))
            _keep(self._patterns, file, known)
        return known[1]


def _root_of(folder: Path) -> Path:
    """The root of the repository that `folder` is in, or itself if in none."""
    for each in (folder, *folder.parents):
        if (each / ".git").exists():
            return each
    return folder


def _keep(kept: dict[Path, T], file: Path, value: T) -> None:
    if len(kept) >= MOST_KEPT:
        kept.clear()
    kept[file] = value

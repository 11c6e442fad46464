"""Which files are left alone: secret ones, those the user named, ignored ones."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from tabwise_server.lsp.configuration import patterns_of
from tabwise_server.settings import LspSettings
from tabwise_server.suggest.privacy import is_secret, matches

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

MOST_SPECS = 1_000


class Reader:
    """Says what may be read; keeps what .gitignore files said until they change."""

    def __init__(self) -> None:
        self._specs: dict[Path, tuple[float, GitIgnoreSpec]] = {}

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
        """Whether git would ignore the file, by the .gitignore files from `folder` to
        it: the innermost with an opinion decides."""
        ignored = False
        for depth in range(len(relative.parts)):
            here = folder.joinpath(*relative.parts[:depth])
            spec = self._spec(here / ".gitignore")
            if spec is not None:
                inner = PurePath(*relative.parts[depth:]).as_posix()
                said = spec.check_file(inner).include
                ignored = ignored if said is None else said
        return ignored

    def _spec(self, file: Path) -> GitIgnoreSpec | None:
        from pathspec import GitIgnoreSpec

        try:
            changed = file.stat().st_mtime
            known = self._specs.get(file)
            if known is None or known[0] != changed:
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
                known = (changed, GitIgnoreSpec.from_lines(lines))
                if len(self._specs) >= MOST_SPECS:
                    self._specs.clear()
                self._specs[file] = known
        except OSError:
            return None
        return known[1]

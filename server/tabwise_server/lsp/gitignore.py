"""What the lines of .gitignore files say of a path, as git reads them.

pathspec translates a line's glob; it takes a folder's pattern for one of all that is in
it, which git does not: there, no pattern takes back what is in an ignored folder.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence

import attrs


@attrs.frozen
class Pattern:
    """A line. ignores: False takes back. whole: of the path, not of its last name."""

    regex: re.Pattern[str]
    ignores: bool
    folders_only: bool
    whole: bool

    def matches(self, parts: Sequence[str], is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        if self.whole:
            return self.regex.fullmatch("/".join(parts)) is not None
        return self.regex.search(parts[-1]) is not None


def is_ignored(parts: Sequence[str], files: Sequence[Sequence[Pattern]]) -> bool:
    """Whether a path, or a folder on the way to it, is ignored.

    files: patterns of the .gitignore in each folder on the way, the outermost first.
    """
    for end in range(1, len(parts) + 1):
        for depth in reversed(range(end)):  # the innermost with an opinion decides
            said = _opinion(files[depth], parts[depth:end], end < len(parts))
            if said:
                return True
            if said is False:
                break
    return False


def read_patterns(text: str) -> list[Pattern]:
    """Of a .gitignore; lines that git passes over are left out."""
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return [pattern for line in lines for pattern in _pattern(line)]


def _opinion(
    patterns: Sequence[Pattern], parts: Sequence[str], is_folder: bool
) -> bool | None:
    """Whether they ignore this path itself, or take it back; the last line decides."""
    for pattern in reversed(patterns):
        if pattern.matches(parts, is_folder):
            return pattern.ignores
    return None


def _pattern(line: str) -> Iterator[Pattern]:
    body = re.sub(r"(?<!\\) +$", "", line)
    if body.startswith("#"):
        return
    ignores = not body.startswith("!")
    body = body if ignores else body[1:]
    folders_only = body.endswith("/")
    body = body.removesuffix("/")
    anywhere = re.sub(r"^(/?\*\*/)+", "", body)
    whole = "/" in anywhere and anywhere != "/**"
    regex = _regex(body if whole else anywhere.removeprefix("/"))
    if regex is not None:
        yield Pattern(regex, ignores, folders_only, whole)


def _regex(glob: str) -> re.Pattern[str] | None:
    """None where git matches nothing: `a\\`, `[z-a]`, an empty line."""
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    if glob.endswith("/**"):
        glob += "/*"  # all that is in the folder, not the folder
    if glob.startswith(("!", "#")):
        glob = f"\\{glob}"
    try:
        with warnings.catch_warnings(action="ignore"):  # `[[a]`, of Python's re
            return GitIgnoreSpecPattern(glob).regex
    except (ValueError, re.error):
        return None

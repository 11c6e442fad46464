"""Which of the open files a file imports, read from its text: no file is opened.

Python (relative and absolute), JavaScript and TypeScript (relative), C and C++
(includes in quotes).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from tabwise_server.suggest.place import Place

HEAD_CHARS = 10_000  # imports stand at the top

_FROM = re.compile(
    r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)", re.MULTILINE
)
_IMPORT = re.compile(r"^[ \t]*import[ \t]+([\w., \t]+)", re.MULTILINE)
_QUOTED = re.compile(
    r"""(?:\bfrom\s*|\bimport\s*\(?\s*|\brequire\(\s*|^[ \t]*\#[ \t]*include\s*)"""
    r"""["']([^"'\n]+)["']""",
    re.MULTILINE,
)
_NAME = re.compile(r"(\w+)(?:\s+as\s+\w+)?")
_PACKAGE_FILES = frozenset({"__init__", "index"})

Module = tuple[str, ...]  # ("package", "module")


def imported_files(place: Place, paths: Sequence[str]) -> set[int]:
    """The places in `paths` of files that the place's file imports.

    Paths are relative to the workspace's root; an absolute module is any file whose
    path ends in its name, whatever source folder it lies in.

    >>> place = Place(prefix="from .shapes import Circle\\n", path="src/app/main.py")
    >>> imported_files(place, ["src/app/other.py", "src/app/shapes.py"])
    {1}
    """
    text = place.prefix[:HEAD_CHARS]
    if len(text) < HEAD_CHARS:
        text += place.suffix[: HEAD_CHARS - len(text)]
    here = posixpath.dirname((place.path or "").replace("\\", "/"))
    exact = set(_relative_modules(text, here, place.is_python))
    endings = set(_absolute_modules(text)) if place.is_python else set()
    found = set()
    for number, path in enumerate(paths):
        module = _module_of(path)
        if module in exact or any(module[i:] in endings for i in range(len(module))):
            found.add(number)
    return found


def _absolute_modules(text: str) -> Iterator[Module]:
    for dots, name, what in _FROM.findall(text):
        if not dots:
            parts = tuple(name.split("."))
            yield parts
            yield from ((*parts, item) for item in _names(what))
    for names in _IMPORT.findall(text):
        for name in _NAME_LIST.findall(names):
            yield tuple(name.split("."))


_NAME_LIST = re.compile(r"([\w.]+)(?:[ \t]+as[ \t]+\w+)?")


def _relative_modules(text: str, here: str, python: bool) -> Iterator[Module]:
    if not python:
        for name in _QUOTED.findall(text):
            yield _module_of(posixpath.normpath(posixpath.join(here, name)))
        return
    for dots, name, what in _FROM.findall(text):
        if not dots:
            continue
        folder = posixpath.join(here, *[".."] * (len(dots) - 1))
        base = _parts(posixpath.normpath(folder)) + tuple(filter(None, name.split(".")))
        yield base
        yield from ((*base, item) for item in _names(what))


def _names(what: str) -> list[str]:
    return _NAME.findall(what)


def _module_of(path: str) -> Module:
    """The path's parts without extension, and without a package's own file.

    >>> _module_of("src/shapes/__init__.py")
    ('src', 'shapes')
    """
    *folders, name = _parts(path.replace("\\", "/")) or ("",)
    stem = name.partition(".")[0]
    return tuple(folders) if stem in _PACKAGE_FILES else (*folders, stem)


def _parts(path: str) -> Module:
    return tuple(part for part in path.split("/") if part not in ("", "."))

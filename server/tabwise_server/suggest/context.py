"""Pieces of other open files that may help at a place, chosen by similarity.

Pure: the caller keeps an `OtherFile` for each open document's version (its index is
made once) and the last `Choice`, which it hands back. A choice stays as it is until the
cursor leaves its region or another file changes, so that typing only appends to the
prompt and the backend's prefix cache stays warm.

Source: Jaccard over the identifiers of windows of lines, as Cody does; files that the
place's file imports come first, windows with recent edits before others.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import attrs

from tabwise_server.suggest.imports import imported_files
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.positions import split_lines
from tabwise_server.wire import MAX_CONTEXT, ContextChunk

WINDOW_LINES = 12
STEP_LINES = 6
REGION_LINES = 12  # the cursor may move so far before the choice is made anew
QUERY_CHARS_BEFORE, QUERY_CHARS_AFTER = 1_500, 500
DEFAULT_CHARS = 4_000
# A smaller window is better spent on the file itself: docs/suggestions.md
MIN_WINDOW_TOKENS = 2_048
MAX_FILE_CHARS = 200_000  # of a larger file, its beginning
COMMON_SHARE = 0.05  # identifiers in more of a file's windows than this tell nothing

EDITED_BONUS = 0.1
DEFINES_BONUS = 0.15  # for a name that is used near the cursor, at most twice
IMPORTED_BONUS = 1.0  # more than any similarity

_IDENTIFIER = re.compile(r"[^\W\d]\w{2,}")
_DEFINED = re.compile(
    r"^[ \t]*(?:(?:export|pub|public|async|static|abstract|default)\s+)*"
    r"(?:def|class|function|fn|func|struct|interface|type|enum|trait)\s+(\w+)",
    re.MULTILINE,
)
_FAMILY: Mapping[str, str] = {
    "javascriptreact": "javascript",
    "typescript": "javascript",
    "typescriptreact": "javascript",
    "c": "cpp",
}


@attrs.frozen(kw_only=True)
class ContextOptions:
    """max_chars: of all chunks together, paths included; 0 for no context.
    min_score: windows less similar are left out."""

    max_chars: int = 0
    min_score: float = 0.08


def budget(context_chars: int | None, window: int | None) -> int:
    """ContextOptions.max_chars: `context_chars` where it is set, else by the tokens of
    the model's window, None for a window that is not known (another's backend).

    >>> budget(None, 512), budget(None, None), budget(300, 512)
    (0, 4000, 300)
    """
    if context_chars is not None:
        return context_chars
    return DEFAULT_CHARS if window is None or window >= MIN_WINDOW_TOKENS else 0


@attrs.frozen(kw_only=True, slots=False, eq=False)
class OtherFile:
    """One version of another open document. Keep it until the document changes.

    path: from the workspace's root, as the model is to read it. edits: lines changed
    not long ago, [start, end) each, as they stand in `text`.
    """

    path: str
    text: str
    language: str | None = None
    edits: tuple[tuple[int, int], ...] = ()

    @cached_property
    def index(self) -> FileIndex:
        """About 7 ms for 2,000 lines, once for each version."""
        return _index(self.text[:MAX_FILE_CHARS])


@attrs.frozen
class FileIndex:
    """sizes: distinct telling identifiers of each window; the maps lead from an
    identifier to the windows that contain, or define, it."""

    lines: Sequence[str]
    sizes: Sequence[int]
    containing: Mapping[str, Sequence[int]]
    defining: Mapping[str, int]


@attrs.frozen
class Choice:
    """What was chosen, the most useful last, and what it was chosen for."""

    chunks: tuple[ContextChunk, ...]
    path: str | None
    line: int
    others: tuple[OtherFile, ...]
    max_chars: int


@attrs.frozen(order=True)
class _Scored:
    score: float
    file: int  # place among the others; a later one was used longer ago
    window: int


def choose_context(
    place: Place,
    others: Sequence[OtherFile],
    options: ContextOptions,
    last: Choice | None = None,
) -> Choice:
    """The chunks for `place`: `last` itself while it still fits.

    others: most recently used first; without secret files, which the caller never
    reads. Costs a count of line ends while `last` fits.
    """
    line = place.prefix.count("\n") if options.max_chars > 0 else 0
    if last is not None and _still_fits(last, place, line, others, options):
        return last
    chunks: tuple[ContextChunk, ...] = ()
    if options.max_chars > 0:
        chunks = tuple(_choose(place, others, options))
    return Choice(chunks, place.path, line, tuple(others), options.max_chars)


def _still_fits(
    last: Choice,
    place: Place,
    line: int,
    others: Sequence[OtherFile],
    options: ContextOptions,
) -> bool:
    return (
        last.path == place.path
        and abs(line - last.line) <= REGION_LINES
        and last.max_chars == options.max_chars
        and set(last.others) == set(others)  # by identity, in any order
    )


def _choose(
    place: Place, others: Sequence[OtherFile], options: ContextOptions
) -> list[ContextChunk]:
    query = _query(place)
    imported = imported_files(place, [other.path for other in others])
    scored: list[_Scored] = []
    for number, other in enumerate(others):
        if other.path == place.path or not _same_family(place, other):
            continue
        bonus = IMPORTED_BONUS if number in imported else 0.0
        scored += [
            _Scored(score + bonus, -number, window)
            for window, score in _scores(other, query).items()
            if score >= options.min_score
        ]
    scored.sort(reverse=True)
    return _fit(scored, others, options.max_chars)


def _query(place: Place) -> set[str]:
    before = place.prefix[-QUERY_CHARS_BEFORE:]
    return set(_IDENTIFIER.findall(before + place.suffix[:QUERY_CHARS_AFTER]))


def _scores(other: OtherFile, query: set[str]) -> dict[int, float]:
    """Similarity of each window that shares something telling with the query."""
    index = other.index
    shared: Counter[int] = Counter()
    for name in query:
        shared.update(index.containing.get(name, ()))
    scores = {
        window: count / (len(query) + index.sizes[window] - count)
        for window, count in shared.items()
    }
    defined = Counter(index.defining[name] for name in query if name in index.defining)
    for window, count in defined.items():
        scores[window] = scores.get(window, 0.0) + DEFINES_BONUS * min(count, 2)
    for window in scores:
        start = window * STEP_LINES
        if any(a < start + WINDOW_LINES and b > start for a, b in other.edits):
            scores[window] += EDITED_BONUS
    return scores


def _fit(
    scored: Iterable[_Scored], others: Sequence[OtherFile], max_chars: int
) -> list[ContextChunk]:
    """The best windows that fit, none overlapping, the best one last."""
    chunks: list[ContextChunk] = []
    taken: set[tuple[int, int]] = set()
    for found in scored:
        if len(chunks) == MAX_CONTEXT:
            break
        if any((found.file, found.window + d) in taken for d in (-1, 0, 1)):
            continue
        chunk = _chunk(others[-found.file], found.window)
        size = len(chunk.path) + 1 + len(chunk.text)
        if size <= max_chars:
            max_chars -= size
            taken.add((found.file, found.window))
            chunks.append(chunk)
    return chunks[::-1]


def _chunk(other: OtherFile, window: int) -> ContextChunk:
    start = window * STEP_LINES
    text = "".join(other.index.lines[start : start + WINDOW_LINES])
    return ContextChunk(path=other.path, text=text.strip("\r\n") + "\n")


def _index(text: str) -> FileIndex:
    lines = [line.rstrip("\r\n") + "\n" for line in split_lines(text)]
    steps = [
        "".join(lines[start : start + STEP_LINES])
        for start in range(0, len(lines), STEP_LINES)
    ]
    names = [set(_IDENTIFIER.findall(step)) for step in steps]
    windows = [
        names[number] | (names[number + 1] if number + 1 < len(names) else set())
        for number in range(max(len(names) - 1, 1))
    ]
    places: defaultdict[str, list[int]] = defaultdict(list)
    for number, found in enumerate(windows):
        for name in found:
            places[name].append(number)
    most = max(COMMON_SHARE * len(windows), 3)
    containing = {name: at for name, at in places.items() if len(at) <= most}
    sizes = [sum(name in containing for name in found) for found in windows]
    defining = {
        name: min(number, len(windows) - 1)
        for number, step in enumerate(steps)
        for name in _DEFINED.findall(step)
    }
    return FileIndex(lines, sizes, containing, defining)


def _same_family(place: Place, other: OtherFile) -> bool:
    mine, theirs = place.language, other.language
    if mine is None or theirs is None:
        return True
    return _FAMILY.get(mine, mine) == _FAMILY.get(theirs, theirs)

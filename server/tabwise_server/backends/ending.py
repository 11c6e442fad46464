"""Where a completion ends, for servers that do not know our kinds of end.

Held to the same rules as our own engine's, on the text that has streamed in so far.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabwise_server.wire import StopKind

TAB_COLUMNS = 8
_LINE = re.compile(r"\s*\S[^\n]*(?=\n)")


def find_end(text: str, stop: StopKind, block_indent: int) -> int | None:
    """Where to cut what has come so far, None to read on.

    line: before the first line break after something visible. block: before the first
    line that is not blank and stands less than `block_indent` columns deep, with the
    blank lines before it.

    >>> find_end("a + b\\nreturn", "line", 0), find_end("a + b", "line", 0)
    (5, None)
    """
    if stop == "line":
        line = _LINE.match(text)
        return len(line.group().removesuffix("\r")) if line else None
    if stop == "block":
        return _end_of_block(text, block_indent)
    return None


def find_marker(text: str, markers: Sequence[str]) -> int | None:
    """Where the first of a model's own markers stands in its answer, if one does."""
    places = [at for at in map(text.find, markers) if at >= 0]
    return min(places, default=None)


def block_indent(prefix: str) -> int:
    """Columns of indentation of the cursor's line."""
    return _columns(prefix[prefix.rfind("\n") + 1 :])


def _end_of_block(text: str, indent: int) -> int | None:
    at = text.find("\n")
    while at >= 0:
        end = text.find("\n", at + 1)
        line = text[at + 1 : end if end >= 0 else None]
        if line.strip() and _columns(line) < indent:
            return len(text[:at].rstrip())
        at = end
    return None


def _columns(line: str) -> int:
    blank = line[: len(line) - len(line.lstrip(" \t"))]
    return len(blank.expandtabs(TAB_COLUMNS))

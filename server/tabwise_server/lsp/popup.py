"""The same suggestion as items of the completion popup, for clients without ghost
text: the rest of the line, the whole line, the block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lsprotocol import types

from tabwise_server.lsp.document import Document

LABEL_CHARS = 60
_LAST_WORD = re.compile(r"\w+$")


def items(
    document: Document, line: int, before: str, text: str
) -> Iterator[types.CompletionItem]:
    """Distinct items for `text` behind `before` on its line, the longest first.

    Each replaces the word left of the cursor, as clients filter by it. They sort behind
    other servers' items, so that they never take the first place from what the editor
    would have shown without them.
    """
    word = _LAST_WORD.search(before)
    beginning = word.group() if word else ""
    column = len(before)
    span = types.Range(
        types.Position(line, document.units(line, column - len(beginning))),
        types.Position(line, document.units(line, column)),
    )
    for number, (kind, part) in enumerate(parts(before, text)):
        whole = beginning + part.replace("\n", document.line_ending)
        yield types.CompletionItem(
            label=shorten(_label(whole)),
            label_details=types.CompletionItemLabelDetails(description=kind),
            kind=types.CompletionItemKind.Snippet
            if kind == "block"
            else types.CompletionItemKind.Text,
            detail=f"Tabwise: {kind}",
            sort_text=f"~tabwise{number}",
            filter_text=whole,
            text_edit=types.TextEdit(span, whole),
            insert_text_format=types.InsertTextFormat.PlainText,
            insert_text_mode=types.InsertTextMode.AsIs,
        )


def parts(before: str, text: str) -> Iterator[tuple[str, str]]:
    """(what it is, text) of the pieces worth an item: the block and its first line, or
    the line alone.

    >>> list(parts("x = ", "foo(bar)"))
    [('rest of line', 'foo(bar)')]
    """
    first, _, more = text.partition("\n")
    if more:
        yield "block", text
    if first.strip():
        yield ("rest of line" if before.strip() else "whole line"), first


def shorten(text: str) -> str:
    """`text` at a popup's width."""
    return text if len(text) <= LABEL_CHARS else text[: LABEL_CHARS - 1] + "…"


def _label(text: str) -> str:
    """The first line with something on it, and a sign that more follow."""
    first, _, rest = text.strip().partition("\n")
    return first.strip() + (" …" if rest else "")

"""Where an inline item goes, and what it begins with: the popup's selected item."""

from __future__ import annotations

import attrs
from lsprotocol import types

from tabwise_server.lsp.document import Document
from tabwise_server.suggest.place import Place


@attrs.frozen
class Insertion:
    """Where an item goes: `span`, which holds `replaced`; it begins with `chosen`, the
    popup's selected text. Without one, all are empty."""

    span: types.Range
    replaced: str = ""
    chosen: str = ""

    @classmethod
    def at(
        cls,
        document: Document,
        position: types.Position,
        before: str,
        context: types.InlineCompletionContext,
    ) -> Insertion:
        """before: the line up to `position`, which may lie beyond its end."""
        here = types.Position(position.line, document.units(position.line, len(before)))
        chosen = context.selected_completion_info
        if chosen is not None and chosen.range.end == here:
            start = chosen.range.start
            if start.line == here.line and start.character <= here.character:
                kept = document.line_before(start.line, start.character)
                return cls(chosen.range, before[len(kept) :], chosen.text)
        return cls(types.Range(here, here))

    def place_after(self, place: Place) -> Place:
        """The place once `chosen` is inserted."""
        kept = place.prefix[: len(place.prefix) - len(self.replaced)]
        return attrs.evolve(place, prefix=kept + self.chosen)

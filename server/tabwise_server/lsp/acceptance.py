"""What was offered, under which id, and what became of it. Counts stay on this machine.

An item's id travels in its command's arguments, the one thing that every client hands
back on acceptance.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import secrets
from collections import Counter, OrderedDict
from typing import Any

import attrs

from tabwise_server.lsp.memory import Shown
from tabwise_server.lsp.session import Suggestion
from tabwise_server.lsp.statistics import CannotCount, Event, Key, add, bucket

logger = logging.getLogger(__name__)

OFFERS = 32  # that are remembered
WRITE_EVERY_S = 30.0


@attrs.define(eq=False)
class Offer:
    """One item as it was sent. taken: characters accepted of it, in UTF-16 units."""

    id: str
    uri: str
    language: str
    text: str
    shown: Shown
    statistics: bool
    seen: bool = False
    taken: int = 0
    accepted: bool = False


class Acceptance:
    """The offers of one server, and the counts that are still to be written."""

    def __init__(self) -> None:
        self._server = secrets.token_hex(4)
        self._number = 0
        self._offers: OrderedDict[str, Offer] = OrderedDict()
        self._counts: Counter[Key] = Counter()
        self._reports_shown = False  # this client says what it shows
        self._writing: asyncio.Task[None] | None = None

    def offer(
        self,
        uri: str,
        language: str | None,
        suggestion: Suggestion,
        statistics: bool,
    ) -> Offer:
        """Give a suggestion its id."""
        self._number += 1
        name = f"{self._server}-{self._number}"
        offer = Offer(
            name,
            uri,
            language or "unknown",
            suggestion.text,
            suggestion.shown,
            statistics,
            seen=not suggestion.fresh,
        )
        self._offers[name] = offer
        if len(self._offers) > OFFERS:
            self._offers.popitem(last=False)
        if not self._reports_shown:
            self._see(offer)
        return offer

    def shown(self, id: str) -> None:
        """The client says that it shows the item."""
        self._reports_shown = True
        offer = self._offers.get(id)
        if offer is not None:
            self._see(offer)

    def accepted(self, id: str) -> Offer | None:
        """The user took all of it; the offer, the first time."""
        offer = self._offers.get(id)
        if offer is None or offer.accepted:
            return None
        offer.accepted = offer.shown.accepted = True
        self._count(offer, "accepted")
        self._take(offer, _units(offer.text))
        return offer

    def partly(self, id: str, length: int) -> None:
        """The user took `length` UTF-16 units of it so far."""
        offer = self._offers.get(id)
        if offer is None or offer.accepted:
            return
        if not offer.taken:
            self._count(offer, "partly")
        self._take(offer, min(length, _units(offer.text)))

    def rejected(self, id: str) -> Offer | None:
        """The user turned it down; the offer, the first time."""
        offer = self._offers.pop(id, None)
        if offer is not None:
            self._count(offer, "rejected")
        return offer

    def took(self, language: str | None, latency_ms: float) -> None:
        """Count how long an answer took."""
        self._add(language or "unknown", bucket(latency_ms), 1)

    async def write(self) -> None:
        """Add what was counted to the file. A failure is logged, and counts wait."""
        counts, self._counts = self._counts, Counter()
        try:
            await asyncio.to_thread(add, counts)
        except CannotCount as error:
            logger.warning("%s", error)
            if len(self._counts) < OFFERS:
                self._counts += counts

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
        await self.write()

    def _see(self, offer: Offer) -> None:
        if not offer.seen:
            offer.seen = True
            self._count(offer, "shown")

    def _take(self, offer: Offer, units: int) -> None:
        more = max(units - offer.taken, 0)
        offer.taken += more
        self._count(offer, "characters", more)

    def _count(self, offer: Offer, event: Event, number: int = 1) -> None:
        if offer.statistics:
            self._add(offer.language, event, number)

    def _add(self, language: str, name: str, number: int) -> None:
        day = datetime.date.today().isoformat()
        self._counts[day, language[:40], name] += number
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        await asyncio.sleep(WRITE_EVERY_S)
        await self.write()


def id_of(item: Any) -> str | None:
    """The id in a client's copy of an item, or None where it has none."""
    command = item.get("command") if isinstance(item, dict) else None
    arguments = command.get("arguments") if isinstance(command, dict) else None
    first = arguments[0] if isinstance(arguments, list) and arguments else None
    return first if isinstance(first, str) else None


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2

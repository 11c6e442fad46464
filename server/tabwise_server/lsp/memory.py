"""What was suggested in one document: continued while it is typed, deleted into again,
and not offered anew once it was turned down.

Only the text near the cursor is kept, and how much more there is: a large document must
not be held several times.
"""

from __future__ import annotations

from collections import deque

import attrs

from tabwise_server.suggest.brackets import CLOSERS, QUOTES
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.repeats import whole_line
from tabwise_server.suggest.trim import trim_overlap

NEAR_CHARS = 1_000  # on each side of the cursor
REMEMBERED = 8
REJECTED = 16


@attrs.define(eq=False)
class Shown:
    """A suggestion and the text it was made for.

    before, after: code points left out in front of `prefix` and behind `suffix`.
    accepted: all of it was in the document once.
    """

    prefix: str
    suffix: str
    text: str
    before: int = 0
    after: int = 0
    accepted: bool = False

    @classmethod
    def at(cls, place: Place, text: str) -> Shown:
        prefix, suffix = place.prefix[-NEAR_CHARS:], place.suffix[:NEAR_CHARS]
        before = len(place.prefix) - len(prefix)
        return cls(prefix, suffix, text, before, len(place.suffix) - len(suffix))

    def typed_at(self, place: Place) -> str | None:
        """What stands between this suggestion's place and `place`, with LF line
        endings, None where anything else before the cursor changed, or more was typed
        than this suggestion has."""
        if not place.prefix.startswith(self.prefix, self.before):
            return None
        start = self.before + len(self.prefix)
        if len(place.prefix) - start > 2 * len(self.text):  # CRLF are two
            return None
        typed = place.prefix[start:]
        return typed.replace("\r\n", "\n")

    def is_followed_by(self, suffix: str) -> bool:
        """Whether `suffix` is what stood behind the cursor."""
        same_length = len(suffix) == len(self.suffix) + self.after
        return same_length and suffix.startswith(self.suffix)


class Memory:
    """The newest suggestions of one document."""

    def __init__(self) -> None:
        self._shown: deque[Shown] = deque(maxlen=REMEMBERED)  # newest first
        self._rejected: deque[str] = deque(maxlen=REJECTED)

    @property
    def rejected(self) -> tuple[str, ...]:
        """The `whole_line`s of what was turned down, or accepted and undone."""
        return tuple(self._rejected)

    def remember(self, place: Place, text: str) -> Shown:
        shown = Shown.at(place, text)
        self._shown.appendleft(shown)
        return shown

    def rest(self, place: Place) -> tuple[Shown, str] | None:
        """The newest suggestion that goes on at `place`, and what is left of it."""
        for shown in self._shown:
            typed = shown.typed_at(place)
            if typed == shown.text:
                shown.accepted = True
            elif typed == "" and shown.accepted and self._undone(shown, place):
                return None
            rest = continue_shown(shown, place)
            if rest is not None:
                return shown, rest
        return None

    def reject(self, shown: Shown) -> None:
        """Do not offer it at its place again, for a while."""
        self._rejected.append(whole_line(Place(prefix=shown.prefix), shown.text))
        self._shown.clear()

    def forget(self) -> None:
        self._shown.clear()

    def _undone(self, shown: Shown, place: Place) -> bool:
        """Whether `place` is as before `shown` was accepted; then it is rejected."""
        if not shown.is_followed_by(place.suffix):
            return False
        self.reject(shown)
        return True


def continue_shown(shown: Shown, place: Place) -> str | None:
    """The rest of a shown suggestion after its beginning was typed (or partly deleted
    again), None if anything else changed or nothing is left.

    An editor that typed the closing bracket or quote along is understood:

    >>> shown = Shown("f", "\\n", "(a, b)")
    >>> continue_shown(shown, Place(prefix="f(", suffix=")\\n"))
    'a, b'
    """
    typed = shown.typed_at(place)
    if typed is None or not shown.text.startswith(typed):
        return None
    rest = shown.text[len(typed) :]
    if not shown.is_followed_by(place.suffix):
        added = len(place.suffix) - len(shown.suffix) - shown.after
        closed = place.suffix[: max(added, 0)]
        if not 0 < added <= 3 or not shown.is_followed_by(place.suffix[added:]):
            return None
        if not all(char in CLOSERS or char in QUOTES for char in closed):
            return None
        rest = trim_overlap(rest, place)
    return rest if rest.strip() else None

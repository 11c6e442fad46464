"""Which tokens each KV slot holds, and which slot a new prompt should take."""

from __future__ import annotations

import functools
import heapq
import operator
from collections.abc import Iterable, Sequence

import attrs

FIRST_STRIDE = 4  # tokens that are compared first; of prompts, fewer count as none
MIN_SHARED = 16  # tokens; a shorter common prefix is not worth a copy
# Of all slots, this part may be scratch: a crowd that searches would else wipe out what
# every slot holds, and compute each prompt anew (docs/backend.md).
SCRATCH_SHARE = 4


@attrs.define
class Slot:
    """One slot's bookkeeping. tokens: those whose keys and values are valid. owner: who
    alone may use them."""

    index: int
    tokens: list[int] = attrs.Factory(list)
    owner: str = ""
    busy: bool = False
    last_used: int = 0  # the table's clock when it was last acquired or released

    def keep(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        del self.tokens[length:]


@attrs.frozen
class Placement:
    """A slot for a prompt: `cached` of its tokens need not be computed.

    copy_from: the slot whose first `cached` tokens are to be copied first, or None.
    scratch: further slots for this request alone.
    """

    slot: Slot
    cached: int
    copy_from: Slot | None
    scratch: tuple[Slot, ...] = ()


class SlotTable:
    """All slots of a runner; least recently used first to go."""

    def __init__(self, count: int) -> None:
        self.slots = [Slot(index) for index in range(count)]
        self._clock = 0
        self._scratch = 0  # busy ones that hold no prompt

    def acquire(
        self, prompt: Sequence[int], scratch: int = 0, owner: str = ""
    ) -> Placement | None:
        """Take a slot for `prompt` and `scratch` more; None if too few are free, or too
        many are scratch already.

        The owner's slot that holds the longest common prefix is taken if it is free and
        the prompt continues most of what it holds; else the prefix is copied from it
        into the least recently used one, so that two documents do not fight over a
        slot. What other owners' slots hold is neither used nor to be noticed.
        """
        free = [slot for slot in self.slots if not slot.busy]
        most = max(scratch, len(self.slots) // SCRATCH_SHARE)
        if len(free) <= scratch or self._scratch + scratch > most:
            return None
        shared = self._shared(prompt, owner)
        cached = max(shared)
        longest = (s for s, n in zip(self.slots, shared, strict=True) if n == cached)
        best = max(longest, key=lambda s: (not s.busy, s.last_used))
        take = functools.partial(self._take, scratch=scratch, owner=owner)
        if not best.busy and 2 * cached >= len(best.tokens):
            return take(best, cached, None)
        oldest = min(free, key=_LAST_USED)
        if cached >= MIN_SHARED and oldest is not best:
            return take(oldest, cached, best)
        return take(oldest, shared[oldest.index], None)

    def at_rest(self) -> SlotTable:
        """A table of the same slots in which only what rests now is held."""
        table = SlotTable(len(self.slots))
        table.slots = [
            Slot(slot.index) if slot.busy else attrs.evolve(slot, tokens=[*slot.tokens])
            for slot in self.slots
        ]
        table._clock = self._clock
        return table

    def held(self, prompt: Sequence[int], owner: str = "") -> int:
        """How many tokens of `prompt` need not be computed if it gets a slot now."""
        return max(self._shared(prompt, owner))

    def release(self, slot: Slot, scratch: Iterable[Slot] = ()) -> None:
        """The slots may be taken again. The first keeps its tokens for the next
        keystroke; the others are the first to be taken again."""
        slot.busy = False
        self._touch(slot)
        for other in scratch:
            other.keep(0)
            other.busy, other.last_used = False, 0
            self._scratch -= 1

    def forget(self) -> None:
        """Trust no slot's content any more."""
        for slot in self.slots:
            slot.keep(0)

    def _shared(self, prompt: Sequence[int], owner: str) -> list[int]:
        """What each slot holds of a prompt of `owner`."""
        # the last token is computed always: its logits are wanted
        wanted = list(prompt[:-1])
        head = wanted[:FIRST_STRIDE]
        return [
            common_prefix(slot.tokens, wanted)
            if slot.tokens[:FIRST_STRIDE] == head and slot.owner == owner
            else 0
            for slot in self.slots
        ]

    def _take(
        self, slot: Slot, cached: int, source: Slot | None, scratch: int, owner: str
    ) -> Placement:
        slot.busy = True  # first: what a slot at rest says is true at any time
        slot.owner = owner
        if source is not None:
            slot.tokens = source.tokens[:cached]
        else:
            slot.keep(cached)
        self._touch(slot)
        free = (other for other in self.slots if not other.busy)
        others = heapq.nsmallest(scratch, free, key=_LAST_USED)
        for other in others:
            other.keep(0)
            other.busy = True
            self._scratch += 1
        return Placement(slot, cached, source, tuple(others))

    def _touch(self, slot: Slot) -> None:
        self._clock += 1
        slot.last_used = self._clock


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix. Slices compare at C speed, and most pairs
    differ early: looked at in doubling strides, then by halving the last one."""
    limit = min(len(a), len(b))
    low, high = 0, min(FIRST_STRIDE, limit)
    while a[low:high] == b[low:high]:
        if high == limit:
            return limit
        low, high = high, min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


_LAST_USED = operator.attrgetter("last_used")

"""Which tokens each KV slot holds, and which slot a new prompt should take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

MIN_SHARED = 16  # tokens; a shorter common prefix is not worth a copy


@attrs.define
class Slot:
    """One slot's bookkeeping. tokens: those whose keys and values are valid."""

    index: int
    tokens: list[int] = attrs.Factory(list)
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

    def acquire(self, prompt: Sequence[int], scratch: int = 0) -> Placement | None:
        """Take a slot for `prompt` and `scratch` more; None if too few are free.

        The slot that holds the longest common prefix is taken if it is free and the
        prompt continues most of what it holds; else the prefix is copied from it into
        the least recently used one, so that two documents do not fight over a slot.
        """
        free = [slot for slot in self.slots if not slot.busy]
        if len(free) <= scratch:
            return None
        # the last token is computed always: its logits are wanted
        wanted = list(prompt[:-1])
        shared = {slot.index: common_prefix(slot.tokens, wanted) for slot in self.slots}
        best = max(self.slots, key=lambda s: (shared[s.index], not s.busy, s.last_used))
        cached = shared[best.index]
        if not best.busy and 2 * cached >= len(best.tokens):
            return self._take(best, cached, None, scratch)
        oldest = min(free, key=lambda s: s.last_used)
        if cached >= MIN_SHARED and oldest is not best:
            return self._take(oldest, cached, best, scratch)
        return self._take(oldest, shared[oldest.index], None, scratch)

    def release(self, slot: Slot, scratch: Iterable[Slot] = ()) -> None:
        """The slots may be taken again. The first keeps its tokens for the next
        keystroke; the others are the first to be taken again."""
        slot.busy = False
        self._touch(slot)
        for other in scratch:
            other.keep(0)
            other.busy, other.last_used = False, 0

    def forget(self) -> None:
        """Trust no slot's content any more."""
        for slot in self.slots:
            slot.keep(0)

    def _take(
        self, slot: Slot, cached: int, source: Slot | None, scratch: int
    ) -> Placement:
        if source is not None:
            slot.tokens = source.tokens[:cached]
        else:
            slot.keep(cached)
        slot.busy = True
        self._touch(slot)
        free = sorted((s for s in self.slots if not s.busy), key=lambda s: s.last_used)
        for other in free[:scratch]:
            other.keep(0)
            other.busy = True
        return Placement(slot, cached, source, tuple(free[:scratch]))

    def _touch(self, slot: Slot) -> None:
        self._clock += 1
        slot.last_used = self._clock


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix, by halving: slices compare at C speed."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low

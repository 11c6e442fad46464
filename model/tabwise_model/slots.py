"""Which tokens each KV slot holds, and which slot a new prompt should take."""

from __future__ import annotations

import functools
import operator
from collections import OrderedDict
from collections.abc import Sequence

import attrs

FIRST_STRIDE = 4  # tokens that are compared first
MIN_SHARED = 16  # tokens; a shorter common prefix is not worth a copy
# Of all slots, this part may be scratch: if a crowd's searches all forked, they would
# else wipe out what every slot holds.
SCRATCH_SHARE = 4
# A slot whose session has a newer one is as old as others in so many times the turns:
# nobody types on there.
LEFT_AGES = 8

Head = tuple[str, tuple[int, ...]]  # an owner, and how their prompt begins
Session = tuple[str, str]  # an owner, and their session


@attrs.define
class Slot:
    """One slot's bookkeeping. tokens: those whose keys and values are valid. owner: who
    alone may use them. head: of the prompt that it was taken for last. session: whose
    newest it is, if anybody's; left: it is empty, or its session has a newer one."""

    index: int
    tokens: list[int] = attrs.Factory(list)
    owner: str = ""
    head: Head | None = None
    session: Session | None = None
    left: bool = True
    busy: bool = False
    last_used: int = 0  # the table's clock when it was last acquired or released

    def keep(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        del self.tokens[length:]


@attrs.define
class Scratch:
    """Further slots for one request alone, for as long as it runs. promised: so many
    more it is sure to get; few are ever needed, so none is emptied beforehand."""

    promised: int = 0
    slots: list[Slot] = attrs.Factory(list)


@attrs.frozen
class Placement:
    """A slot for a prompt: `cached` of its tokens need not be computed.

    copy_from: the slot whose first `cached` tokens are to be copied first, or None.
    """

    slot: Slot
    cached: int
    copy_from: Slot | None
    scratch: Scratch = attrs.Factory(Scratch)


class SlotTable:
    """All slots of a runner; least recently used first to go, and those that a session
    has left long before those that one may come back to."""

    def __init__(self, count: int) -> None:
        self._hold([Slot(index) for index in range(count)])
        self._clock = 0
        self._scratch = 0  # promised, and taken
        self._promised = 0

    def acquire(
        self,
        prompt: Sequence[int],
        scratch: int = 0,
        owner: str = "",
        session: str | None = None,
    ) -> Placement | None:
        """Take a slot for `prompt`, promise `scratch` more; None if there is no room.

        The owner's slot that holds the longest common prefix is taken if it is free and
        the prompt continues most of what it holds; else the prefix is copied from it
        into the least recently used one, so that two documents do not fight over a
        slot. What other owners' slots hold is neither used nor to be noticed.
        """
        if not self.has_room(scratch):
            return None
        whose = None if session is None else (owner, session)
        take = functools.partial(self._take, _head(prompt, owner), whose, scratch)
        oldest = self._oldest()
        shared = self._shared(prompt, owner)
        if not shared:
            return take(oldest, 0, None)
        best, cached = max(
            shared.values(), key=lambda one: (one[1], not one[0].busy, one[0].last_used)
        )
        if not best.busy and 2 * cached >= len(best.tokens):
            return take(best, cached, None)
        if cached >= MIN_SHARED and oldest is not best:
            return take(oldest, cached, best)
        return take(oldest, shared.get(oldest.index, (oldest, 0))[1], None)

    def has_room(self, scratch: int) -> bool:
        """Whether a slot and so many more are free, and not too many are scratch."""
        most = max(scratch, len(self.slots) // SCRATCH_SHARE)
        free = len(self._free) + len(self._left)
        enough = free > self._promised + scratch
        return enough and self._scratch + scratch <= most

    def lend(self, scratch: Scratch) -> Slot:
        """One of those that were promised: the least recently used, emptied."""
        assert scratch.promised > 0
        scratch.promised -= 1
        self._promised -= 1
        slot = self._oldest()
        self._occupy(slot)
        slot.keep(0)
        self._file(slot, None, None)
        scratch.slots.append(slot)
        return slot

    def at_rest(self) -> SlotTable:
        """A table of the same slots in which only what rests now is held."""
        table = SlotTable(0)
        table._hold(
            [
                Slot(slot.index)
                if slot.busy
                else attrs.evolve(slot, tokens=[*slot.tokens])
                for slot in self.slots
            ]
        )
        table._clock = self._clock
        return table

    def held(self, prompt: Sequence[int], owner: str = "") -> int:
        """How many tokens of `prompt` need not be computed if it gets a slot now."""
        shared = self._shared(prompt, owner).values()
        return max((cached for _, cached in shared), default=0)

    def release(self, slot: Slot, scratch: Scratch | None = None) -> None:
        """The slots may be taken again. The first keeps its tokens for the next
        keystroke; the others are the first to be taken again."""
        slot.busy = False
        self._touch(slot)
        self._queue(slot)[slot.index] = slot
        if scratch is None:
            return
        for other in scratch.slots:
            other.keep(0)
            other.busy, other.last_used = False, 0
            self._left[other.index] = other
            self._left.move_to_end(other.index, last=False)
        self._promised -= scratch.promised
        self._scratch -= scratch.promised + len(scratch.slots)

    def forget(self) -> None:
        """Trust no slot's content any more."""
        for slot in self.slots:
            slot.keep(0)

    def _hold(self, slots: list[Slot]) -> None:
        """Begin with these, none of which is busy."""
        self.slots = slots
        # The free ones, least recently used first; by index, as are the others.
        self._free: OrderedDict[int, Slot] = OrderedDict()
        self._left: OrderedDict[int, Slot] = OrderedDict()
        self._by_head: dict[Head, dict[int, Slot]] = {}
        self._newest: dict[Session, Slot] = {}
        for slot in sorted(slots, key=_LAST_USED):
            self._queue(slot)[slot.index] = slot
            if slot.head is not None:
                self._by_head.setdefault(slot.head, {})[slot.index] = slot
            if slot.session is not None:
                self._newest[slot.session] = slot

    def _queue(self, slot: Slot) -> OrderedDict[int, Slot]:
        """Where it waits when it is free."""
        return self._left if slot.left else self._free

    def _oldest(self) -> Slot:
        """The free slot to take first."""
        queues = (self._left, self._free)
        return max((next(iter(q.values())) for q in queues if q), key=self._age)

    def _age(self, slot: Slot) -> int:
        return (self._clock - slot.last_used) * (LEFT_AGES if slot.left else 1)

    def _shared(self, prompt: Sequence[int], owner: str) -> dict[int, tuple[Slot, int]]:
        """By its index, what a slot holds of a prompt of `owner`, if that is any."""
        # the last token is computed always: its logits are wanted
        wanted = list(prompt[:-1])
        known = self._by_head.get(_head(prompt, owner), {}).values()
        shared = ((slot, common_prefix(slot.tokens, wanted)) for slot in known)
        return {slot.index: (slot, cached) for slot, cached in shared if cached}

    def _take(
        self,
        head: Head,
        session: Session | None,
        scratch: int,
        slot: Slot,
        cached: int,
        source: Slot | None,
    ) -> Placement:
        self._occupy(slot)
        slot.owner = head[0]
        if source is not None:
            slot.tokens = source.tokens[:cached]
        else:
            slot.keep(cached)
        self._file(slot, head, session)
        self._touch(slot)
        self._scratch += scratch
        self._promised += scratch
        return Placement(slot, cached, source, Scratch(scratch))

    def _occupy(self, slot: Slot) -> None:
        slot.busy = True  # first: what a slot at rest says is true at any time
        del self._queue(slot)[slot.index]

    def _file(self, slot: Slot, head: Head | None, session: Session | None) -> None:
        """Note under what a busy slot is to be found from now on, and whose it is."""
        if slot.head is not None:
            beside = self._by_head[slot.head]
            del beside[slot.index]
            if not beside:
                del self._by_head[slot.head]
        slot.head = head
        if head is not None:
            self._by_head.setdefault(head, {})[slot.index] = slot
        if slot.session is not None:
            del self._newest[slot.session]
        if session is not None and session in self._newest:
            self._leave(self._newest[session])
        slot.session, slot.left = session, head is None
        if session is not None:
            self._newest[session] = slot

    def _leave(self, slot: Slot) -> None:
        """Its session has a newer one."""
        if not slot.busy:
            del self._free[slot.index]
            self._left[slot.index] = slot
        slot.session, slot.left = None, True

    def _touch(self, slot: Slot) -> None:
        self._clock += 1
        slot.last_used = self._clock


def _head(prompt: Sequence[int], owner: str) -> Head:
    return owner, tuple(prompt[:-1][:FIRST_STRIDE])


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

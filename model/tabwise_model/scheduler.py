"""Who gets a slot, and whose tokens go into the next step. Knows no model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator

import attrs

from tabwise_model.runners.protocol import Chunk
from tabwise_model.sequence import Sequence
from tabwise_model.slots import (
    MIN_SHARED,
    Placement,
    Scratch,
    Slot,
    SlotTable,
    common_prefix,
)

MIN_SHARE = 16  # prompt tokens that an owner gets at least, when it gets any
OLDEST_SHARE = 4  # of an owner's tokens in a step, this part is the oldest prompt's
# An owner's requests that compute more than SHORT tokens of their prompts at one time:
# more would only wait for each other, in slots that those who type on need.
MOST_PREFILLING, SHORT = 8, 16
AGE_TOKENS = 2_000  # to compute, of which one more counts as much as a second's waiting


@attrs.frozen
class Admission:
    """A sequence that has just been given a slot; the copy is yet to be made."""

    sequence: Sequence
    placement: Placement


class Scheduler:
    """Sequences take turns into slots; all of them decode together.

    The next slot goes to the owner who has fewest, of theirs to the session that has
    fewest, then to who has least to compute, waiting taken off. Whose prompt is being
    computed for another waits for it and takes it over: on a cold start, each keystroke
    would else compute it anew. In a step every decoding sequence has its newest token
    computed, and those still in their prompts share `prefill_chunk` tokens: the owners
    equally, of each one's the shortest first (see `nested_shares`), so that neither a
    long prompt nor a crowd holds others longer than one chunk, and who types on passes
    who begins.
    """

    def __init__(self, n_slots: int, prefill_chunk: int) -> None:
        self._slots = SlotTable(n_slots)
        self._chunk = prefill_chunk
        self._queue: list[Sequence] = []
        self._running: list[Sequence] = []

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[Sequence]:
        """All sequences, those in slots first; a copy, which may be changed under."""
        return iter([*self._running, *self._queue])

    def add(self, sequence: Sequence) -> None:
        request = sequence.request
        sequence.remaining -= self._slots.held(request.prompt, request.owner)
        self._queue.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out; its slot keeps its tokens for the next keystroke."""
        if sequence.slot is None:
            self._queue.remove(sequence)
        else:
            self._running.remove(sequence)
            self._slots.release(sequence.slot, sequence.scratch)

    def admit(self, now: float) -> Admission | None:
        """Give whose turn it is a slot; None if there is none, or nobody to have it."""
        least = min((s.scratch_wanted for s in self._queue), default=0)
        if not (self._queue and self._slots.has_room(least)):
            return None
        busy = Counter(s.whose[0] for s in self._running if len(s.pending) > SHORT)
        sequence = next(
            (
                s
                for s in self._in_turn(now)
                if (s.remaining <= SHORT or busy[s.whose[0]] < MOST_PREFILLING)
                and not self._follows(s)
            ),
            None,
        )
        if sequence is None:
            return None
        request = sequence.request
        placement = self._slots.acquire(
            request.prompt, sequence.scratch_wanted, request.owner, request.session
        )
        if placement is None:
            return None
        self._queue.remove(sequence)
        sequence.enter(placement, now)
        self._running.append(sequence)
        return Admission(sequence, placement)

    def lend(self, scratch: Scratch) -> Slot:
        """A slot of those that a sequence was promised."""
        return self._slots.lend(scratch)

    def plan(self) -> list[tuple[Sequence, list[Chunk]]]:
        """The next step's chunks of each sequence that takes part."""
        prefilling = [s for s in self._running if not s.decoding]
        lengths = [len(s.pending) for s in prefilling]
        whose = [s.whose for s in prefilling]
        shares = iter(nested_shares(whose, lengths, self._chunk))
        planned = []
        for sequence in self._running:
            chunks = sequence.chunks(None if sequence.decoding else next(shares))
            if chunks:
                planned.append((sequence, chunks))
        return planned

    def _in_turn(self, now: float) -> list[Sequence]:
        """The queue; of those that are equal, who came first."""
        if len(self._queue) == 1:
            return self._queue
        have: Counter[tuple[Hashable, ...]] = Counter()
        for sequence in self._running:
            have[sequence.whose] += 1
            have[sequence.whose[:1]] += 1

        def turn(s: Sequence) -> tuple[int, int, float]:
            cost = s.remaining - AGE_TOKENS * (now - s.arrived)
            return have[s.whose[:1]], have[s.whose], cost

        return sorted(self._queue, key=turn)

    def _follows(self, sequence: Sequence) -> bool:
        """Whether another of its owner is computing more of its prompt than is held."""
        request = sequence.request
        coming = max(
            (
                common_prefix(other.request.prompt, request.prompt)
                for other in self._running
                if not other.decoding and other.request.owner == request.owner
            ),
            default=0,
        )
        if coming < MIN_SHARED:
            return False
        return coming - self._slots.held(request.prompt, request.owner) >= MIN_SHARED

    def hold(self, slots: SlotTable) -> None:
        """Begin with what these hold."""
        self._slots = slots

    def at_rest(self) -> SlotTable:
        """The slots, in which only what nobody works on now is held."""
        return self._slots.at_rest()

    def forget(self) -> None:
        """Trust no slot's content any more."""
        self._slots.forget()


def fair_shares(lengths: list[int], budget: int) -> list[int]:
    """How many of `budget` tokens each gets that wants `lengths`, the oldest first.

    Equal shares; what the short ones leave goes to the long ones. The oldest always
    gets its share, then the shortest go first, since they free their slots soonest. A
    share is never under MIN_SHARE, so in a crowd the youngest long ones wait.

    fair_shares([500, 10, 500], 128) == [42, 10, 76]
    """
    shares = [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda i: (i > 0, lengths[i]))
    for place, i in enumerate(order):
        share = max(budget // (len(order) - place), MIN_SHARE)
        shares[i] = min(lengths[i], share, budget)
        budget -= shares[i]
    if shares:
        shares[0] += min(budget, lengths[0] - shares[0])
    return shares


def shortest_first(lengths: list[int], budget: int) -> list[int]:
    """How many of `budget` tokens each gets that wants `lengths`, the oldest first.

    The oldest gets a quarter, so that it is done some time; then the shortest get all
    they want: in the mean none is done sooner if they take turns.

    shortest_first([500, 10, 90], 128) == [32, 10, 86]
    """
    if not lengths:
        return []
    shares = [0] * len(lengths)
    shares[0] = min(lengths[0], -(-budget // OLDEST_SHARE))
    budget -= shares[0]
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        more = min(lengths[i] - shares[i], budget)
        shares[i] += more
        budget -= more
    return shares


def nested_shares(
    whose: list[tuple[Hashable, ...]],
    lengths: list[int],
    budget: int,
    divide: Callable[[list[int], int], list[int]] = fair_shares,
) -> list[int]:
    """`fair_shares` among owners, who are named first in `whose`; of each one's share
    `shortest_first` among the sessions that are named next, then within these.

    nested_shares([("a", 1), ("a", 2), ("b", 3)], [90, 80, 90], 128) == [16, 48, 64]
    """
    if not whose or not whose[0]:
        return shortest_first(lengths, budget)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, names in enumerate(whose):
        groups[names[0]].append(i)
    wanted = [sum(lengths[i] for i in group) for group in groups.values()]
    shares = [0] * len(lengths)
    parts = divide(wanted, budget)
    for group, part in zip(groups.values(), parts, strict=True):
        inner = nested_shares(
            [whose[i][1:] for i in group],
            [lengths[i] for i in group],
            part,
            shortest_first,
        )
        for i, share in zip(group, inner, strict=True):
            shares[i] = share
    return shares

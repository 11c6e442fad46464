"""Who gets a slot, and whose tokens go into the next step. Knows no model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import attrs

from tabwise_model.runners.protocol import Chunk
from tabwise_model.sequence import Sequence
from tabwise_model.slots import Placement, SlotTable

MIN_SHARE = 16  # prompt tokens a prefilling request gets at least, when it gets any


@attrs.frozen
class Admission:
    """A sequence that has just been given a slot; the copy is yet to be made."""

    sequence: Sequence
    placement: Placement


class Scheduler:
    """Sequences first come first served into slots; all of them decode together.

    In a step every decoding sequence has its newest token computed, and those still
    in their prompts share `prefill_chunk` tokens (see `fair_shares`), so that a long
    prompt holds nobody longer than one chunk.
    """

    def __init__(self, n_slots: int, prefill_chunk: int) -> None:
        self._slots = SlotTable(n_slots)
        self._chunk = prefill_chunk
        self._queue: deque[Sequence] = deque()
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
        self._queue.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out; its slot keeps its tokens for the next keystroke."""
        if sequence.slot is None:
            self._queue.remove(sequence)
        else:
            self._running.remove(sequence)
            self._slots.release(sequence.slot, sequence.scratch)

    def admit(self, now: float) -> Admission | None:
        """Give the first in the queue a slot; None if there is no slot or no queue."""
        if not self._queue:
            return None
        first = self._queue[0]
        placement = self._slots.acquire(first.request.prompt, first.scratch_wanted)
        if placement is None:
            return None
        sequence = self._queue.popleft()
        sequence.enter(placement, now)
        self._running.append(sequence)
        return Admission(sequence, placement)

    def plan(self) -> list[tuple[Sequence, list[Chunk]]]:
        """The next step's chunks of each sequence that takes part."""
        prefilling = [s for s in self._running if not s.decoding]
        shares = iter(fair_shares([len(s.pending) for s in prefilling], self._chunk))
        planned = []
        for sequence in self._running:
            chunks = sequence.chunks(None if sequence.decoding else next(shares))
            if chunks:
                planned.append((sequence, chunks))
        return planned

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

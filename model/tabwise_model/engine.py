"""The engine: requests in, generations out, one `step()` at a time.

step = schedule -> run -> postprocess. It owns the scheduler and one runner, is called
from one thread, and imports no torch. A step is one forward pass over every decoding
request's newest token and a chunk of the prompts that are not yet computed. Output does
not depend on what else is running, nor on what was cached.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_model.choosing import Chosen, Row, choose
from tabwise_model.healing import TokenIndex
from tabwise_model.request import Finish, Generation, GenerationRequest, Search, Stop
from tabwise_model.runners.protocol import Chunk, Logits, Runner
from tabwise_model.sampling import NotFinite
from tabwise_model.scheduler import Admission, Scheduler
from tabwise_model.search import LineSearch
from tabwise_model.sequence import Sequence
from tabwise_model.slots import Slot, SlotTable
from tabwise_model.tokenizer import Tokenizer

BATCH_BITS = 8  # told apart; of larger batches it is only told that they were large


@attrs.define
class EngineCounters:
    """Totals since the start; tokens count when they are computed.

    finished: ended by themselves, not cancelled, expired or failed. batched: requests
    that took part in steps; batches: steps by the bits of their number, so that
    batches[k] had under 2**k and at least half of that.
    """

    steps: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    finished: int = 0
    cancelled: int = 0
    expired: int = 0
    failed: int = 0
    batched: int = 0
    batches: npt.NDArray[np.int64] = attrs.field(
        factory=lambda: np.zeros(BATCH_BITS + 1, np.int64), eq=False
    )

    def plus(self, other: EngineCounters) -> EngineCounters:
        """The sums: of an engine and the one that took its place."""
        names = [field.name for field in attrs.fields(EngineCounters)]
        return EngineCounters(
            **{name: getattr(self, name) + getattr(other, name) for name in names}
        )


class Engine:
    """Continuous batching over one runner's slots."""

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        *,
        prefill_chunk: int = 128,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.runner = runner
        self.tokenizer = tokenizer
        self.counters = EngineCounters()
        self.computing = False  # the runner is; meanwhile no slot at rest changes
        self._clock = clock
        self._scheduler = Scheduler(runner.n_slots, prefill_chunk)
        self._by_id: dict[str, Sequence] = {}
        self._done: list[Generation] = []
        self._next_deadline = math.inf  # no request expires before it
        self._bytes = tokenizer.token_bytes()
        self._index = TokenIndex(self._bytes)

    def hold(self, slots: SlotTable) -> None:
        """Before any request: the runner's slots hold this already."""
        self._scheduler.hold(slots)

    def slots_at_rest(self) -> SlotTable:
        """For an engine that goes on with this one's runner after it has ended, or that
        takes over what it holds while it hangs in `computing`: until the runner
        returns, nothing is written into them."""
        return self._scheduler.at_rest()

    @property
    def has_work(self) -> bool:
        return bool(self._by_id or self._done)

    @property
    def queued(self) -> int:
        return self._scheduler.queued

    @property
    def running(self) -> int:
        return self._scheduler.running

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request.

        Raises ValueError if its prompt is empty or leaves no room in a slot, if it
        asks for no token, or if a request with its id is not yet finished.
        """
        limit = self.runner.slot_tokens
        if not 1 <= len(request.prompt) < limit:
            raise ValueError(
                f"a prompt must have 1..{limit - 1} tokens, got {len(request.prompt)}"
            )
        if request.max_new_tokens < 1:
            raise ValueError(
                f"max_new_tokens must be at least 1, got {request.max_new_tokens}"
            )
        if request.id in self._by_id:
            raise ValueError(f"request {request.id!r} is already running")
        if request.search is not None:
            self._check_search(request, request.search)
        sequence = Sequence(request, self._clock(), self._index)
        self._by_id[request.id] = sequence
        self._scheduler.add(sequence)
        if request.deadline is not None:
            self._next_deadline = min(self._next_deadline, request.deadline)

    def cancel(self, request_id: str) -> None:
        """End a request before the next step; unknown or finished ids are ignored."""
        sequence = self._by_id.get(request_id)
        if sequence is not None:
            self._finish(sequence, Finish.CANCELLED)

    def step(self) -> list[Generation]:
        """Advance everything by one forward pass; returns what has finished."""
        planned = self._schedule()
        if planned:
            self.counters.steps += 1
            self.counters.batched += len(planned)
            self.counters.batches[min(len(planned).bit_length(), BATCH_BITS)] += 1
            try:
                logits = self._extend([c for _, chunks in planned for c in chunks])
            except Exception as error:  # noqa: BLE001 - whatever the runner raises
                self._fail([sequence for sequence, _ in planned], error)
            else:
                self._postprocess(planned, logits)
        return self._hand_out()

    def fail_all(self, error: Exception) -> list[Generation]:
        """End every request with `error` and trust no slot; the engine may go on."""
        self._fail(self._scheduler, error)
        self._scheduler.forget()
        return self._hand_out()

    def _extend(self, chunks: list[Chunk]) -> Logits:
        self.computing = True
        try:
            return self.runner.extend(chunks)
        finally:
            self.computing = False

    def _check_search(self, request: GenerationRequest, search: Search) -> None:
        most = self.runner.n_slots
        if not 1 <= search.width <= most:
            raise ValueError(f"a search's width must be 1..{most}, got {search.width}")
        if request.stop is Stop.NONE or request.sampling.temperature > 0:
            raise ValueError("a search needs stop 'line' or 'block', and temperature 0")

    def _schedule(self) -> list[tuple[Sequence, list[Chunk]]]:
        now = self._clock()
        if now >= self._next_deadline:
            self._expire(now)
        while (admission := self._scheduler.admit(now)) is not None:
            self._enter(admission)
        return self._scheduler.plan()

    def _expire(self, now: float) -> None:
        self._next_deadline = math.inf
        for sequence in self._scheduler:
            deadline = sequence.request.deadline
            if deadline is not None and now >= deadline:
                self._finish(sequence, Finish.EXPIRED)
            elif deadline is not None:
                self._next_deadline = min(self._next_deadline, deadline)

    def _enter(self, admission: Admission) -> None:
        """Fill a new sequence's slot with what another slot holds of its prompt."""
        sequence, placement = admission.sequence, admission.placement
        if placement.copy_from is not None:
            source, target = placement.copy_from.index, placement.slot.index
            try:
                self.runner.copy_slot(source, target, placement.cached)
            except Exception as error:  # noqa: BLE001 - whatever the runner raises
                self._fail([sequence], error)
                return
        self.counters.prompt_tokens += len(sequence.request.prompt)
        self.counters.cached_tokens += placement.cached

    def _postprocess(
        self, planned: list[tuple[Sequence, list[Chunk]]], logits: Logits
    ) -> None:
        # the model's vocabulary may be padded beyond the tokenizer's
        rows = iter(logits[:, : self.tokenizer.vocab_size])
        searching: list[tuple[Sequence, LineSearch, list[Row]]] = []
        for sequence, chunks in planned:
            mine = list(islice(rows, len(chunks)))
            sequence.computed(chunks)
            if sequence.decoding:
                self.counters.decode_tokens += len(chunks)
            else:
                self.counters.prefill_tokens += len(chunks[0].tokens)
                if sequence.pending:
                    continue
                sequence.begin_decoding(self._clock())
            if sequence.search is not None:
                asked = sequence.search.ask(mine)
                searching.append((sequence, sequence.search, asked))
            else:
                with self._failing_alone(sequence):
                    self._choose(sequence, mine[0])
        self._search(searching)

    def _search(self, searching: list[tuple[Sequence, LineSearch, list[Row]]]) -> None:
        """Take all searches one step on, their rows chosen from together."""
        asked = [row for _, _, rows in searching for row in rows]
        width = max((search.width for _, search, _ in searching), default=0)
        chosen = iter(choose(asked, width))
        for sequence, search, rows in searching:
            mine = list(islice(chosen, len(rows)))
            with self._failing_alone(sequence):
                self._advance(sequence, search, mine)

    @contextlib.contextmanager
    def _failing_alone(self, sequence: Sequence) -> Iterator[None]:
        """Logits that are not finite, or whatever the runner raises, end this one."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            self._fail([sequence], error)

    def _choose(self, sequence: Sequence, row: Logits) -> None:
        """Take the next token by sampling."""
        heal = sequence.heal
        allowed = self._index.allowed(heal) if heal else None
        token, logprob = sequence.sampler.choose(row, allowed, sequence.copied())
        self._take(sequence, token, logprob)

    def _advance(
        self,
        sequence: Sequence,
        search: LineSearch,
        chosen: list[Chosen | NotFinite],
    ) -> None:
        """Take a search one step on, its hypotheses' keys and values with it."""
        if not search.advance(chosen):
            if not sequence.next_line() or self._overfills(sequence):
                self._finish(sequence, Finish.LINE)
            return
        for source, target, tokens, start in sequence.fork(
            search.alive, self._scheduler.lend
        ):
            self.runner.copy_slot(source.index, target.index, tokens, start)
        if any(self._fills(home) for home in sequence.homes):
            search.give_up()
            sequence.next_line()
            self._finish(sequence, Finish.LINE)

    def _take(self, sequence: Sequence, token: int, logprob: float) -> None:
        """Append a chosen token, and end the request where it ends."""
        if token in self.tokenizer.sentinels:
            self._finish(sequence, Finish.END)
            return
        finish = sequence.append(token, logprob, self._bytes[token])
        assert sequence.slot is not None
        if finish is None and self._fills(sequence.slot):
            finish = Finish.LENGTH
        if finish is not None:
            self._finish(sequence, finish)
        else:
            sequence.report()

    def _overfills(self, sequence: Sequence) -> bool:
        """Whether its pending tokens leave no room in the slot."""
        assert sequence.slot is not None
        held = len(sequence.slot.tokens) + len(sequence.pending)
        return held + 1 >= self.runner.slot_tokens

    def _fills(self, slot: Slot) -> bool:
        """Whether the next token takes the last place in the slot."""
        return len(slot.tokens) + 1 >= self.runner.slot_tokens

    def _fail(self, sequences: Iterable[Sequence], error: Exception) -> None:
        """End these with the error; what their slots hold is not to be trusted."""
        for sequence in sequences:
            for slot in sequence.homes:
                slot.keep(0)
            sequence.error = f"{type(error).__name__}: {error}"
            self._finish(sequence, Finish.FAILED)

    def _finish(self, sequence: Sequence, finish: Finish) -> None:
        self._scheduler.remove(sequence)
        del self._by_id[sequence.request.id]
        self._done.append(sequence.result(finish, self._clock()))
        match finish:
            case Finish.CANCELLED:
                self.counters.cancelled += 1
            case Finish.EXPIRED:
                self.counters.expired += 1
            case Finish.FAILED:
                self.counters.failed += 1
            case _:
                self.counters.finished += 1

    def _hand_out(self) -> list[Generation]:
        done, self._done = self._done, []
        return done

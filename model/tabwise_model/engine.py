"""The engine: requests in, generations out, one `step()` at a time.

step = expire -> admit -> schedule -> run -> postprocess. It owns the scheduling and one
runner, is called from one thread, and imports no torch. A step is one forward pass over
every decoding request's newest token, and up to `prefill_chunk` prompt tokens shared
fairly among requests still prefilling, so a long prompt never holds the others longer
than one chunk.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import attrs

from tabwise_model.request import Finish, Generation, GenerationRequest
from tabwise_model.runners.protocol import Chunk, Logits, Runner
from tabwise_model.sampling import Sampler
from tabwise_model.slots import Slot, SlotTable
from tabwise_model.stop import StopScanner
from tabwise_model.tokenizer import Tokenizer

MIN_SHARE = 16  # prompt tokens a prefilling request gets at least, when it gets any


@attrs.define
class EngineCounters:
    """Totals since the start; tokens count when they are computed."""

    steps: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    finished: int = 0
    cancelled: int = 0
    expired: int = 0
    failed: int = 0


class _Sequence:
    """One request in a slot."""

    def __init__(self, request: GenerationRequest, arrived: float) -> None:
        self.request = request
        self.arrived = arrived
        self.result = Generation(
            id=request.id, finish=Finish.LENGTH, prompt_tokens=len(request.prompt)
        )
        self.sampler = Sampler(request.sampling)
        self.scanner = StopScanner(request.stop, request.block_indent)
        self.slot: Slot | None = None
        self.pending: tuple[int, ...] = request.prompt  # tokens not yet in the slot
        self.ends: list[int] = []  # bytes of text before the end of each token
        self.admitted = self.decoding_since = 0.0

    @property
    def decoding(self) -> bool:
        return bool(self.result.tokens)


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
        self._chunk = prefill_chunk
        self._clock = clock
        self._slots = SlotTable(runner.n_slots)
        self._queue: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []
        self._done: list[Generation] = []
        self._bytes = tokenizer.token_bytes()

    @property
    def has_work(self) -> bool:
        return bool(self._queue or self._running or self._done)

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        return len(self._running)

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request. Raises ValueError if its prompt is empty or leaves no room
        in a slot."""
        limit = self.runner.slot_tokens
        if not 1 <= len(request.prompt) < limit:
            raise ValueError(
                f"a prompt must have 1..{limit - 1} tokens, got {len(request.prompt)}"
            )
        self._queue.append(_Sequence(request, self._clock()))

    def cancel(self, request_id: str) -> None:
        """End a request before the next step; unknown or finished ids are ignored."""
        for sequence in [*self._queue, *self._running]:
            if sequence.request.id == request_id:
                self._finish(sequence, Finish.CANCELLED)
                return

    def step(self) -> list[Generation]:
        """Advance everything by one forward pass; returns what has finished."""
        self._expire()
        self._admit()
        scheduled = self._schedule()
        if scheduled:
            self.counters.steps += 1
            try:
                logits = self.runner.extend([chunk for _, chunk in scheduled])
            except Exception as error:  # noqa: BLE001 - whatever the runner raises
                self._fail([sequence for sequence, _ in scheduled], error)
            else:
                self._postprocess(scheduled, logits)
        done, self._done = self._done, []
        return done

    def _expire(self) -> None:
        now = self._clock()
        for sequence in [*self._queue, *self._running]:
            deadline = sequence.request.deadline
            if deadline is not None and now >= deadline:
                self._finish(sequence, Finish.EXPIRED)

    def _admit(self) -> None:
        """Give slots to queued requests, first come first served."""
        while self._queue:
            placement = self._slots.acquire(self._queue[0].request.prompt)
            if placement is None:
                return
            sequence = self._queue.popleft()
            if placement.copy_from is not None:
                self.runner.copy_slot(
                    placement.copy_from.index, placement.slot.index, placement.cached
                )
            sequence.slot = placement.slot
            sequence.pending = sequence.request.prompt[placement.cached :]
            sequence.admitted = self._clock()
            sequence.result.cached_tokens = placement.cached
            sequence.result.queue_s = sequence.admitted - sequence.arrived
            self.counters.prompt_tokens += len(sequence.request.prompt)
            self.counters.cached_tokens += placement.cached
            self._running.append(sequence)

    def _schedule(self) -> list[tuple[_Sequence, Chunk]]:
        """This step's chunk of each request that takes part."""
        scheduled = []
        budget = self._chunk
        waiting = [s for s in self._running if not s.decoding]
        for sequence in self._running:
            assert sequence.slot is not None
            if sequence.decoding:
                tokens = sequence.pending
            elif budget > 0:
                share = max(MIN_SHARE, budget // len(waiting))
                tokens = sequence.pending[: min(share, budget)]
                budget -= len(tokens)
                waiting.pop()
            else:
                continue
            start = len(sequence.slot.tokens)
            scheduled.append((sequence, Chunk(sequence.slot.index, start, tokens)))
        return scheduled

    def _postprocess(
        self, scheduled: list[tuple[_Sequence, Chunk]], logits: Logits
    ) -> None:
        vocab = self.tokenizer.vocab_size  # the model's may be padded beyond
        for (sequence, chunk), row in zip(scheduled, logits, strict=True):
            assert sequence.slot is not None
            sequence.slot.tokens.extend(chunk.tokens)
            sequence.pending = sequence.pending[len(chunk.tokens) :]
            if sequence.decoding:
                self.counters.decode_tokens += 1
            else:
                self.counters.prefill_tokens += len(chunk.tokens)
            if not sequence.pending:
                self._take_token(sequence, *sequence.sampler.choose(row[:vocab]))

    def _take_token(self, sequence: _Sequence, token: int, logprob: float) -> None:
        """Append a chosen token, and end the request where it ends."""
        result = sequence.result
        if not result.tokens:
            sequence.decoding_since = self._clock()
            result.prefill_s = sequence.decoding_since - sequence.admitted
        if token in self.tokenizer.sentinels:
            self._finish(sequence, Finish.END)
            return
        result.tokens.append(token)
        result.logprobs.append(logprob)
        sequence.ends.append(len(sequence.scanner.text))
        cut = sequence.scanner.feed(self._bytes[token])
        if cut is not None:
            self._cut(sequence, cut)
            self._finish(sequence, Finish(sequence.request.stop.value))
        elif self._is_full(sequence):
            self._finish(sequence, Finish.LENGTH)
        else:
            sequence.pending = (token,)

    def _is_full(self, sequence: _Sequence) -> bool:
        assert sequence.slot is not None
        return (
            len(sequence.result.tokens) >= sequence.request.max_new_tokens
            or len(sequence.slot.tokens) + 1 >= self.runner.slot_tokens
        )

    def _cut(self, sequence: _Sequence, at: int) -> None:
        """Drop text from byte `at` on, and every token that begins there or later."""
        del sequence.scanner.text[at:]
        kept = sum(begin < at for begin in sequence.ends)
        del sequence.result.tokens[kept:]
        del sequence.result.logprobs[kept:]

    def _fail(self, sequences: list[_Sequence], error: Exception) -> None:
        """End these with the error; what their slots hold is not to be trusted."""
        for sequence in sequences:
            assert sequence.slot is not None
            sequence.slot.tokens.clear()
            sequence.result.error = f"{type(error).__name__}: {error}"
            self._finish(sequence, Finish.FAILED)

    def _finish(self, sequence: _Sequence, finish: Finish) -> None:
        result = sequence.result
        result.finish = finish
        result.text = bytes(sequence.scanner.text)
        if sequence.decoding_since:
            result.decode_s = self._clock() - sequence.decoding_since
        if sequence.slot is not None:
            self._slots.release(sequence.slot)
            self._running.remove(sequence)
        else:
            self._queue.remove(sequence)
        self._count(finish)
        self._done.append(result)

    def _count(self, finish: Finish) -> None:
        name = finish.value if finish.value in _COUNTED else "finished"
        setattr(self.counters, name, getattr(self.counters, name) + 1)


_COUNTED = frozenset(("cancelled", "expired", "failed"))

"""One request on its way through the engine: what is left to compute, what came out."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from tabwise_model.copying import Copied
from tabwise_model.healing import TokenIndex
from tabwise_model.request import (
    Finish,
    Generation,
    GenerationRequest,
    Line,
    Progress,
    Stop,
)
from tabwise_model.runners.protocol import Chunk
from tabwise_model.sampling import Sampler
from tabwise_model.search import CONTEXT, Hypothesis, LineSearch
from tabwise_model.slots import Placement, Scratch, Slot, common_prefix
from tabwise_model.stop import StopScanner, columns, find_first, held_back


class Sequence:
    """A request with its slots, its pending tokens and its text so far.

    pending: tokens whose keys and values are not yet in the slot: the rest of the
    prompt, then the newest chosen token. remaining: about how many tokens of the prompt
    a slot does not hold that it may begin with. slot: the prompt's, None while queued.
    scratch: where a search keeps its other hypotheses. Times are the engine clock's
    seconds, None for what has not happened.
    """

    def __init__(
        self, request: GenerationRequest, arrived: float, index: TokenIndex
    ) -> None:
        self.request = request
        # owner and session; a request without a session is one of its own
        self.whose: tuple[Hashable, ...] = (request.owner, request.session or self)
        self._written: list[int] = []  # all chosen tokens
        self.pending = request.prompt
        self.remaining = len(request.prompt)
        self.slot: Slot | None = None
        self.scratch = Scratch()
        self._index = index
        self.search = self._line_search()
        self._lines: list[Line] = []  # that were found
        self.homes: list[Slot] = []  # of the search's living hypotheses
        self.sampler = Sampler(request.sampling)
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.cached_tokens = 0
        self.decoding = False  # the whole prompt has been computed
        self.heal = request.heal  # bytes still to be written again
        self.error: str | None = None
        self._probability: float | None = None
        self._alternatives: list[Line] = []
        self._scanner = StopScanner(request.stop, request.block_indent)
        self._begins: list[int] = []  # bytes of text before each token
        self.arrived = arrived
        self._admitted: float | None = None
        self._first_token: float | None = None

    @property
    def scratch_wanted(self) -> int:
        return self.request.search.width - 1 if self.request.search else 0

    def enter(self, placement: Placement, now: float) -> None:
        """Take slots, the first of which holds the beginning of the prompt."""
        self.slot, self.scratch = placement.slot, placement.scratch
        self.homes = [placement.slot]
        self.cached_tokens = placement.cached
        self.pending = self.request.prompt[placement.cached :]
        self._admitted = now

    def chunks(self, share: int | None = None) -> list[Chunk]:
        """What to compute next: at most `share` tokens of the prompt, or the newest
        token of every hypothesis."""
        if self.search is not None and self.decoding:
            return [
                Chunk(home.index, len(home.tokens), hypothesis.written[-1:])
                for home, hypothesis in zip(self.homes, self.search.alive, strict=True)
            ]
        tokens = self.pending[:share]
        if not tokens:
            return []
        assert self.slot is not None
        return [Chunk(self.slot.index, len(self.slot.tokens), tokens)]

    def computed(self, chunks: list[Chunk]) -> None:
        """Note in the slots what has been computed of `chunks`."""
        for home, chunk in zip(self.homes, chunks, strict=True):
            home.tokens.extend(chunk.tokens)
        if not self.decoding:
            self.pending = self.pending[len(chunks[0].tokens) :]

    def copied(self) -> tuple[Copied, ...]:
        """What may be copied behind the text so far."""
        if self.request.copy is None:
            return ()
        return self.request.copy.predict(
            (*self.request.prompt[-CONTEXT:], *self._written)
        )

    def fork(
        self, alive: list[Hypothesis], lend: Callable[[Scratch], Slot]
    ) -> list[tuple[Slot, Slot, int, int]]:
        """Give each new hypothesis a slot: its parent's, or a copy of it. lend: gives
        one more of those that were promised.

        Returns the copies to make, (source, target, tokens, of which the target has).
        """
        assert self.slot is not None
        kept = {child.parent for child in alive}
        mine = (self.slot, *self.scratch.slots)
        spare = [slot for slot in mine if slot not in self.homes]
        spare += [s for i, s in enumerate(self.homes) if i not in kept]
        homes, copies = [], []
        for child in alive:
            parent = self.homes[child.parent]
            if child.parent in kept:
                kept.remove(child.parent)
                homes.append(parent)
                continue
            target = spare.pop() if spare else lend(self.scratch)
            shared = common_prefix(target.tokens, parent.tokens)
            copies.append((parent, target, len(parent.tokens), shared))
            target.tokens = list(parent.tokens)
            homes.append(target)
        self.homes = homes
        return copies

    def begin_decoding(self, now: float) -> None:
        self.decoding = True
        if self._first_token is None:
            self._first_token = now

    def next_line(self) -> bool:
        """Keep the line that the search has found; returns whether another is to be
        searched, once what is pending has been computed."""
        assert self.search is not None
        assert self.slot is not None
        found = self.search.lines()
        if not found and not self._lines and (part := self.search.part()) is not None:
            found = [part]
        if not found or self._leaves_block(found[0]):
            return False
        self._lines.append(found[0])
        if self.request.stop is not Stop.BLOCK or found[0].finish is not Finish.LINE:
            self._alternatives = found[1:]
            return False
        self._written += found[0].written
        if len(self._written) + 1 >= self.request.max_new_tokens:
            return False
        self.search = self._line_search()
        ids = (*self.request.prompt, *self._written)
        self.slot.keep(common_prefix(self.slot.tokens, ids[:-1]))
        self.homes, self.decoding = [self.slot], False
        self.pending = ids[len(self.slot.tokens) :]
        return True

    def _line_search(self) -> LineSearch | None:
        search = self.request.search
        if search is None:
            return None
        return LineSearch(self.request, search, self._index, self._written)

    def _leaves_block(self, line: Line) -> bool:
        """Whether a line after the first is indented less than the cursor's."""
        text = bytearray(line.text.rpartition(b"\n")[2])
        return bool(self._lines) and columns(text) < self.request.block_indent

    def append(self, token: int, logprob: float, piece: bytes) -> Finish | None:
        """Add a chosen token; returns why the request ends with it, None to go on.

        What only writes again what stands before the cursor is no part of the result.
        """
        self.pending = (token,)
        self._written.append(token)
        healed = min(len(piece), len(self.heal))
        self.heal, piece = self.heal[healed:], piece[healed:]
        if healed and not piece:
            return None
        self.tokens.append(token)
        self.logprobs.append(logprob)
        before = len(self._scanner.text)
        self._begins.append(before)
        cut = self._scanner.feed(piece)
        stop = find_first(self._scanner.text, self.request.stop_texts, before)
        if stop is not None and (cut is None or stop <= cut):
            self._keep(stop)
            return Finish.STOP
        if cut is not None:
            self._keep(cut)
            return Finish(self.request.stop.value)
        if len(self.tokens) >= self.request.max_new_tokens:
            return Finish.LENGTH
        return None

    def report(self) -> None:
        """Tell whoever follows this request what it has so far."""
        if self.request.progress is None or self.request.stop is not Stop.NONE:
            return
        text = self._scanner.text
        safe = len(text) - held_back(text, self.request.stop_texts)
        kept = sum(begin < safe for begin in self._begins)
        self.request.progress(
            Progress(
                bytes(text[:safe]),
                tuple(self.tokens[:kept]),
                tuple(self.logprobs[:kept]),
                tuple(self._begins[:kept]),
            )
        )

    def result(self, finish: Finish, now: float) -> Generation:
        """What became of the request, at `now`."""
        admitted = now if self._admitted is None else self._admitted
        first = now if self._first_token is None else self._first_token
        if self.search is not None and finish is Finish.LINE:
            finish = self._take_lines()
        return Generation(
            id=self.request.id,
            finish=finish,
            tokens=self.tokens,
            logprobs=self.logprobs,
            begins=self._begins,
            text=bytes(self._scanner.text),
            prompt_tokens=len(self.request.prompt),
            cached_tokens=self.cached_tokens,
            queue_s=admitted - self.arrived,
            prefill_s=first - admitted,
            decode_s=now - first,
            error=self.error,
            probability=self._probability,
            alternatives=self._alternatives,
        )

    def _take_lines(self) -> Finish:
        """Make the lines that were found the result; returns how it ended."""
        self._probability = min((x.probability for x in self._lines), default=0.0)
        if not self._lines:
            return Finish.UNSURE
        self.tokens = [i for line in self._lines for i in line.tokens]
        self.logprobs = [p for line in self._lines for p in line.logprobs]
        self._scanner.text = bytearray(b"\n".join(x.text for x in self._lines))
        finish = self._lines[-1].finish
        ends_block = finish is Finish.LINE and self.request.stop is Stop.BLOCK
        return Finish.BLOCK if ends_block else finish

    def _keep(self, length: int) -> None:
        """Cut the text to `length` bytes, and drop every token that begins past it."""
        del self._scanner.text[length:]
        kept = sum(begin < length for begin in self._begins)
        del self.tokens[kept:]
        del self.logprobs[kept:]
        del self._begins[kept:]

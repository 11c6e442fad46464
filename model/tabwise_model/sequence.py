"""One request on its way through the engine: what is left to compute, what came out."""

from __future__ import annotations

from tabwise_model.request import Finish, Generation, GenerationRequest
from tabwise_model.sampling import Sampler
from tabwise_model.slots import Slot
from tabwise_model.stop import StopScanner


class Sequence:
    """A request with its slot, its pending tokens and its text so far.

    pending: tokens whose keys and values are not yet in the slot: the rest of the
    prompt, then the newest chosen token. slot: None while queued. Times are the
    engine clock's seconds, None for what has not happened.
    """

    def __init__(self, request: GenerationRequest, arrived: float) -> None:
        self.request = request
        self.pending = request.prompt
        self.slot: Slot | None = None
        self.sampler = Sampler(request.sampling)
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.cached_tokens = 0
        self.decoding = False  # the whole prompt has been computed
        self.heal = request.heal  # bytes still to be written again
        self.error: str | None = None
        self._scanner = StopScanner(request.stop, request.block_indent)
        self._begins: list[int] = []  # bytes of text before each token
        self._arrived = arrived
        self._admitted: float | None = None
        self._first_token: float | None = None

    def enter(self, slot: Slot, cached: int, now: float) -> None:
        """Take `slot`, which holds the first `cached` tokens of the prompt."""
        self.slot = slot
        self.cached_tokens = cached
        self.pending = self.request.prompt[cached:]
        self._admitted = now

    def begin_decoding(self, now: float) -> None:
        self.decoding = True
        self._first_token = now

    def append(self, token: int, logprob: float, piece: bytes) -> Finish | None:
        """Add a chosen token; returns why the request ends with it, None to go on.

        What only writes again what stands before the cursor is no part of the result.
        """
        self.pending = (token,)
        healed = min(len(piece), len(self.heal))
        self.heal, piece = self.heal[healed:], piece[healed:]
        if healed and not piece:
            return None
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self._begins.append(len(self._scanner.text))
        cut = self._scanner.feed(piece)
        if cut is not None:
            self._keep(cut)
            return Finish(self.request.stop.value)
        if len(self.tokens) >= self.request.max_new_tokens:
            return Finish.LENGTH
        return None

    def result(self, finish: Finish, now: float) -> Generation:
        """What became of the request, at `now`."""
        admitted = now if self._admitted is None else self._admitted
        first = now if self._first_token is None else self._first_token
        return Generation(
            id=self.request.id,
            finish=finish,
            tokens=self.tokens,
            logprobs=self.logprobs,
            text=bytes(self._scanner.text),
            prompt_tokens=len(self.request.prompt),
            cached_tokens=self.cached_tokens,
            queue_s=admitted - self._arrived,
            prefill_s=first - admitted,
            decode_s=now - first,
            error=self.error,
        )

    def _keep(self, length: int) -> None:
        """Cut the text to `length` bytes, and drop every token that begins past it."""
        del self._scanner.text[length:]
        kept = sum(begin < length for begin in self._begins)
        del self.tokens[kept:]
        del self.logprobs[kept:]

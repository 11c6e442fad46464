"""Completions as the backend makes them: a wire request in, a wire response out."""

from __future__ import annotations

import codecs
import itertools
import time
from collections.abc import Callable

import attrs

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.engine import Engine
from tabwise_model.infill import MIN_PROMPT, Hole, Infiller, Wanted
from tabwise_model.prompt import plain_prompt
from tabwise_model.request import (
    Generation,
    GenerationRequest,
    Line,
    Progress,
    Sampling,
    Stop,
)
from tabwise_model.runners.protocol import Runner
from tabwise_server.errors import BadRequest
from tabwise_server.serving.admission.limits import Places
from tabwise_server.serving.engine.bridge import EngineBridge
from tabwise_server.serving.observing.metrics import Metrics
from tabwise_server.settings import ServeSettings
from tabwise_server.wire import (
    Alternative,
    CodeRequest,
    CodeResponse,
    CompletionRequest,
    CompletionResponse,
    Timings,
)

TAB_COLUMNS = 8
SEARCH_WIDTH = 4  # lines carried on at once; measured in docs/evaluation.md


class CompletionService:
    """One checkpoint being served. started, last_request: monotonic seconds."""

    def __init__(
        self, checkpoint: Checkpoint, runner: Runner, settings: ServeSettings
    ) -> None:
        self.checkpoint = checkpoint
        self.device = runner.device
        self.engine = Engine(
            runner, checkpoint.tokenizer, prefill_chunk=settings.prefill_chunk
        )
        self.bridge = EngineBridge(self.engine)
        self.metrics = Metrics(self.engine)
        self.places = Places(settings.max_queue, settings.max_per_key)
        self.ready = False
        self.started = time.monotonic()
        self.last_request = time.monotonic()
        self._room = min(runner.slot_tokens, checkpoint.config.block_size)
        self.context_tokens = self._room  # of prompt and answer together
        self._infiller = Infiller(checkpoint.tokenizer, self._room)
        self._ids = itertools.count()

    async def start(self) -> None:
        """Run the engine, and decode once so that the first user does not wait."""
        self.bridge.start()
        prompt = plain_prompt(self.checkpoint.tokenizer, "def warm", window=16)
        await self.bridge.generate(
            GenerationRequest(
                id="warm", prompt=prompt.ids, heal=prompt.heal, max_new_tokens=2
            )
        )
        self.ready = True

    async def stop(self) -> None:
        self.ready = False
        await self.bridge.stop()

    async def complete(
        self, request: CompletionRequest, received: float
    ) -> CompletionResponse:
        """Fill in between prefix and suffix. received: monotonic seconds."""
        deadline = request.deadline_ms
        result = await self._generate(
            self._infiller.request(
                str(next(self._ids)),
                Hole(
                    prefix=request.prefix,
                    suffix=request.suffix,
                    context=[(chunk.path, chunk.text) for chunk in request.context],
                    indent=indent_columns(request.prefix),
                ),
                self._wanted(request),
                session=request.session,
                deadline=None if deadline is None else received + deadline / 1000,
            )
        )
        return self._response(result, received, request.candidates)

    def _wanted(self, request: CompletionRequest) -> Wanted:
        return Wanted(
            max_new_tokens=request.max_new_tokens,
            stop=Stop(request.stop),
            sampling=Sampling(
                temperature=request.temperature,
                top_k=request.top_k,
                seed=request.seed,
            ),
            width=min(SEARCH_WIDTH, self.engine.runner.n_slots),
            min_probability=request.min_confidence,
        )

    async def fill(
        self,
        hole: Hole,
        wanted: Wanted,
        *,
        stop_texts: tuple[bytes, ...] = (),
        progress: Callable[[Progress], None] | None = None,
        session: str | None = None,
    ) -> Generation:
        """A hole filled for other APIs. progress: see `GenerationRequest`."""
        request = self._infiller.request(
            str(next(self._ids)), hole, wanted, session=session
        )
        return await self._generate(
            attrs.evolve(request, stop_texts=stop_texts, progress=progress)
        )

    async def go_on(
        self,
        code: str,
        max_new_tokens: int,
        sampling: Sampling,
        *,
        stop_texts: tuple[bytes, ...] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> Generation:
        """`code` continued left to right."""
        new_tokens = self._new_tokens(max_new_tokens)
        prompt = plain_prompt(
            self.checkpoint.tokenizer, code, window=self._room - new_tokens
        )
        return await self._generate(
            GenerationRequest(
                id=str(next(self._ids)),
                prompt=prompt.ids,
                heal=prompt.heal,
                max_new_tokens=new_tokens,
                sampling=sampling,
                stop_texts=stop_texts,
                progress=progress,
            )
        )

    async def complete_code(
        self, request: CodeRequest, received: float
    ) -> CodeResponse:
        """The seed's API: continue `code` left to right."""
        if not request.code:
            raise BadRequest("code must not be empty", field="code")
        sampling = Sampling(temperature=request.temperature, top_k=request.top_k)
        result = await self.go_on(request.code, request.max_tokens, sampling)
        return CodeResponse(
            completion=decode_whole(result.text),
            tokens=len(result.tokens),
            latency_ms=_milliseconds(time.monotonic() - received),
        )

    def _new_tokens(self, wanted: int) -> int:
        """What of `wanted` fits beside a prompt worth the name."""
        return max(1, min(wanted, self._room - MIN_PROMPT))

    async def _generate(self, request: GenerationRequest) -> Generation:
        self.last_request = time.monotonic()
        result = await self.bridge.generate(request)
        self.metrics.observe(result)
        return result

    def _response(
        self, result: Generation, received: float, candidates: int
    ) -> CompletionResponse:
        logprobs = result.logprobs or [0.0]
        known = {} if result.probability is None else {"confidence": result.probability}
        return CompletionResponse(
            **known,
            alternatives=[_other(x) for x in result.alternatives[: candidates - 1]],
            text=decode_whole(result.text),
            finish=result.finish.value,  # type: ignore[arg-type]
            tokens=len(result.tokens),
            mean_logprob=sum(logprobs) / len(logprobs),
            min_logprob=min(logprobs),
            prompt_tokens=result.prompt_tokens,
            cached_tokens=result.cached_tokens,
            model=self.checkpoint.name,
            timings=Timings(
                queue_ms=_milliseconds(result.queue_s),
                prefill_ms=_milliseconds(result.prefill_s),
                decode_ms=_milliseconds(result.decode_s),
                latency_ms=_milliseconds(time.monotonic() - received),
            ),
        )


def _other(line: Line) -> Alternative:
    logprobs = line.logprobs or [0.0]
    return Alternative(
        text=decode_whole(line.text),
        finish=line.finish.value,  # type: ignore[arg-type]
        tokens=len(line.tokens),
        mean_logprob=sum(logprobs) / len(logprobs),
        min_logprob=min(logprobs),
        confidence=line.probability,
    )


def decode_whole(data: bytes) -> str:
    """UTF-8 text without an unfinished character at its end.

    Bytes that can never become a character show as U+FFFD.
    """
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data, final=False)


def indent_columns(prefix: str) -> int:
    """Columns of indentation of the cursor's line."""
    line = prefix[prefix.rfind("\n") + 1 :]
    blank = line[: len(line) - len(line.lstrip(" \t"))]
    return len(blank.expandtabs(TAB_COLUMNS))


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)

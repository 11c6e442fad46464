"""Completions as the backend makes them: a wire request in, a wire response out."""

from __future__ import annotations

import codecs
import itertools
import time

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.engine import Engine
from tabwise_model.prompt import fim_prompt, plain_prompt
from tabwise_model.request import Generation, GenerationRequest, Sampling, Stop
from tabwise_model.runners.protocol import Runner
from tabwise_server.errors import BadRequest
from tabwise_server.serving.bridge import EngineBridge
from tabwise_server.serving.limits import Places
from tabwise_server.serving.metrics import Metrics
from tabwise_server.settings import ServeSettings
from tabwise_server.wire import (
    CodeRequest,
    CodeResponse,
    CompletionRequest,
    CompletionResponse,
    Timings,
)

TAB_COLUMNS = 8
MIN_PROMPT = 32  # tokens that a prompt may always have


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
        self.places = Places(settings.max_queue)
        self.ready = False
        self.started = time.monotonic()
        self.last_request = time.monotonic()
        self._room = min(runner.slot_tokens, checkpoint.config.block_size)
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
        new_tokens = self._new_tokens(request.max_new_tokens)
        prompt = fim_prompt(
            self.checkpoint.tokenizer,
            request.prefix,
            request.suffix,
            [(chunk.path, chunk.text) for chunk in request.context],
            window=self._room - new_tokens,
        )
        deadline = request.deadline_ms
        result = await self._generate(
            GenerationRequest(
                id=str(next(self._ids)),
                prompt=prompt.ids,
                heal=prompt.heal,
                max_new_tokens=new_tokens,
                sampling=Sampling(
                    temperature=request.temperature,
                    top_k=request.top_k,
                    seed=request.seed,
                ),
                stop=Stop(request.stop),
                block_indent=indent_columns(request.prefix),
                session=request.session,
                deadline=None if deadline is None else received + deadline / 1000,
            )
        )
        return self._response(result, received)

    async def complete_code(
        self, request: CodeRequest, received: float
    ) -> CodeResponse:
        """The seed's API: continue `code` left to right."""
        if not request.code:
            raise BadRequest("code must not be empty", field="code")
        new_tokens = self._new_tokens(request.max_tokens)
        prompt = plain_prompt(
            self.checkpoint.tokenizer, request.code, window=self._room - new_tokens
        )
        result = await self._generate(
            GenerationRequest(
                id=str(next(self._ids)),
                prompt=prompt.ids,
                heal=prompt.heal,
                max_new_tokens=new_tokens,
                sampling=Sampling(temperature=request.temperature, top_k=request.top_k),
            )
        )
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

    def _response(self, result: Generation, received: float) -> CompletionResponse:
        logprobs = result.logprobs or [0.0]
        return CompletionResponse(
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

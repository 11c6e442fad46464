"""What all routes share: the model that is served, places, caches, figures."""

from __future__ import annotations

import time
from collections.abc import Callable

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.request import Generation, Progress
from tabwise_server.serving.admission.limits import Limits, Places
from tabwise_server.serving.caching.answers import AnswerCache
from tabwise_server.serving.engine.bridge import NotBegun
from tabwise_server.serving.engine.engines import Engines
from tabwise_server.serving.observing.metrics import Metrics
from tabwise_server.serving.observing.requests import note
from tabwise_server.serving.observing.tracing import Tracing
from tabwise_server.serving.question import Asker, Question
from tabwise_server.settings import ServeSettings


class CompletionService:
    """Answers questions by its engines. started, last_request: monotonic seconds."""

    def __init__(self, engines: Engines, settings: ServeSettings) -> None:
        """Raises SettingsError."""
        self.engines = engines
        self.cache = AnswerCache(settings)
        self.places = Places(
            Limits(
                requests=settings.max_queue,
                least=settings.least_queue,
                tokens=settings.max_queue_tokens,
                each=settings.max_per_key,
                each_minute=settings.max_per_minute,
            )
        )
        self.metrics = Metrics(self.cache, self.places)
        self.tracing = (
            None if settings.otlp_endpoint is None else Tracing(settings.otlp_endpoint)
        )
        self.ready = False
        self.started = time.monotonic()
        self.last_request = time.monotonic()

    @property
    def checkpoint(self) -> Checkpoint:
        return self.engines.model.checkpoint

    @property
    def device(self) -> str:
        return self.engines.model.facts.device

    @property
    def context_tokens(self) -> int:
        """Of prompt and answer together."""
        return self.engines.model.facts.window

    async def start(self) -> None:
        await self.engines.start()
        self.ready = True

    async def stop(self) -> None:
        self.ready = False
        await self.engines.stop()
        await self.cache.close()
        if self.tracing is not None:
            self.tracing.close()

    async def answer(
        self,
        question: Question,
        asker: Asker,
        progress: Callable[[Progress], None] | None = None,
    ) -> Generation:
        """See `Model.answer`; what was answered before is answered from the
        cache, with all of its text at once."""
        self.last_request = time.monotonic()
        while True:
            model = await self.engines.model_for(question, asker)
            key = self.cache.key(question, asker.owner, model)
            if key is not None and (kept := await self.cache.find(key)) is not None:
                note(tokens=len(kept.tokens), cache="hit")
                return kept
            try:
                result = await model.answer(question, asker, progress)
                break
            except NotBegun:
                continue  # with the next model, or until that raises
        self.metrics.observe(result)
        if self.tracing is not None:
            self.tracing.observe(result)
        if key is not None:
            self.cache.keep(key, result)
        note(
            tokens=len(result.tokens),
            prompt_tokens=result.prompt_tokens,
            cached_tokens=result.cached_tokens,
            queue_ms=round(result.queue_s * 1000, 1),
        )
        return result

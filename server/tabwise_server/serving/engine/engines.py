"""What a server answers with: a model in its own process (`Keeper`), or one in each of
several (`Crew`)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import attrs

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.engine import EngineCounters
from tabwise_model.prompt import Prompt
from tabwise_model.request import Generation, Progress
from tabwise_server.errors import TabwiseError
from tabwise_server.serving.question import Asker, Question

RESTART_REASONS = ("ended", "hung")


@attrs.frozen(kw_only=True)
class Facts:
    """What is known of a model that is served. runner: its kind; slots: sequences whose
    keys and values it keeps; window: tokens of prompt and answer; width: lines that it
    carries on at once."""

    runner: str
    device: str
    slots: int
    window: int
    width: int


@attrs.frozen(kw_only=True)
class Figures:
    """How engines do, since the start. queued, running: requests that wait for a slot,
    and that have one. remembered_tokens: of workspaces. restarts: engines that were
    replaced, by RESTART_REASONS.
    resident_bytes, cpu_s: memory and processor time of the engines' own processes, 0
    where they have none or the system does not say."""

    counters: EngineCounters = attrs.Factory(EngineCounters)
    queued: int = 0
    running: int = 0
    slots: int = 0
    remembered_tokens: int = 0
    restarts: Counter[str] = attrs.Factory(Counter)
    resident_bytes: int = 0
    cpu_s: float = 0.0

    def plus(self, other: Figures) -> Figures:
        return Figures(
            counters=self.counters.plus(other.counters),
            queued=self.queued + other.queued,
            running=self.running + other.running,
            slots=self.slots + other.slots,
            remembered_tokens=self.remembered_tokens + other.remembered_tokens,
            restarts=self.restarts + other.restarts,
            resident_bytes=self.resident_bytes + other.resident_bytes,
            cpu_s=self.cpu_s + other.cpu_s,
        )

    @property
    def of_the_past(self) -> Figures:
        """What remains of them when their engine is gone."""
        return Figures(counters=self.counters, restarts=self.restarts, cpu_s=self.cpu_s)


class Model(Protocol):
    """One checkpoint, and what answers with it."""

    @property
    def checkpoint(self) -> Checkpoint: ...

    @property
    def facts(self) -> Facts: ...

    async def answer(
        self,
        question: Question,
        asker: Asker,
        progress: Callable[[Progress], None] | None = None,
    ) -> Generation:
        """progress: called with what there is so far, in any thread.

        Raises DeadlineExceeded, EngineFailed, EngineGone, or NotBegun where another
        model is to be asked.
        """

    def prompt(self, question: Question) -> Prompt:
        """What the model reads for it."""


class Engines(Protocol):
    """given_up: set when nothing here will answer any more."""

    given_up: asyncio.Event

    @property
    def model(self) -> Model:
        """One of those that are served now; all have the same checkpoint."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def close(self, kind: type[TabwiseError], said: str) -> None:
        """Answer everything in flight with such an error, and look after nothing any
        more."""

    async def model_for(self, question: Question, asker: Asker) -> Model:
        """The model to ask. Raises what `check` does."""

    def check(self) -> None:
        """Raises EngineGone or Overloaded where a request would not be answered soon,
        so that a router can ask another backend."""

    def check_alive(self) -> None:
        """Raises EngineFailed where no engine lives."""

    async def reload(self) -> bool:
        """Serve the checkpoint as it lies now; returns whether that is another one.
        Raises where it cannot be read or used, and then nothing has changed."""

    async def figures(self) -> Figures: ...

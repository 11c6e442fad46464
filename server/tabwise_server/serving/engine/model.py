"""One checkpoint in one runner, with its engine: what can be replaced while serving."""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import attrs

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.engine import Engine
from tabwise_model.prompt import Prompt, plain_prompt
from tabwise_model.request import Generation, GenerationRequest, Progress
from tabwise_model.runners.protocol import Runner
from tabwise_server.serving.engine.bridge import EngineBridge
from tabwise_server.serving.engine.engines import Facts
from tabwise_server.serving.engine.reader import Reader
from tabwise_server.serving.question import Asker, Question

SEARCH_WIDTH = 4  # lines carried on at once; measured in docs/evaluation.md
# Characters that are tokenised at once, as they take no longer than a thread's waking.
SHORT_CHARS = 4_000
CROWD = 48  # questions; where more wait, refusing some soon matters more
KEPT_SESSIONS = 4_096  # whose documents are taken as known


class ServedModel:
    """Answers questions once it is started.

    Where several are asked, a long text is tokenised in a thread of its own at first:
    in the milliseconds that takes, the event loop can refuse dozens. Of a document that
    was asked about before, most is known.
    """

    def __init__(
        self, checkpoint: Checkpoint, runner: Runner, prefill_chunk: int = 128
    ) -> None:
        checkpoint.tokenizer.keep_for(runner.n_slots)
        self.checkpoint = checkpoint
        self._prefill_chunk = prefill_chunk
        self.engine = Engine(runner, checkpoint.tokenizer, prefill_chunk=prefill_chunk)
        self.bridge = EngineBridge(self.engine)
        self.facts = Facts(
            runner=type(runner).__name__,
            device=runner.device,
            slots=runner.n_slots,
            window=min(runner.slot_tokens, checkpoint.config.block_size),
            width=min(SEARCH_WIDTH, runner.n_slots),
        )
        self._reader = Reader(checkpoint, self.facts.window, self.facts.width)
        self._ids = itertools.count()
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.in_flight = 0  # questions that are not answered

    def successor(self) -> ServedModel:
        """A model that goes on with this one's runner, whose thread has ended, and with
        what its slots hold but for those of requests in flight."""
        old = self.engine
        fresh = ServedModel(self.checkpoint, old.runner, self._prefill_chunk)
        fresh.engine.hold(old.slots_at_rest())
        return fresh

    def take_over(self, hung: ServedModel) -> None:
        """Hold what the slots of a model hold that hangs while it computes, but for
        those of requests in flight; nothing where the runner cannot, or where the hung
        one went on meanwhile. Before the start."""
        old, adopt = hung.engine, getattr(self.engine.runner, "adopt", None)
        if adopt is None or not old.computing:
            return
        slots = old.slots_at_rest()
        adopt(old.runner, [len(slot.tokens) for slot in slots.slots])
        if old.computing:
            self.engine.hold(slots)

    @property
    def remembered_tokens(self) -> int:
        """Of workspaces."""
        return self._reader.workspaces.tokens

    def prompt(self, question: Question) -> Prompt:
        return self._reader.prompt(question)

    async def start(self) -> None:
        """Run the engine, and decode once so that the first user does not wait."""
        self.bridge.start()
        prompt = plain_prompt(self.checkpoint.tokenizer, "def warm", window=16)
        await self.bridge.generate(
            GenerationRequest(
                id="warm", prompt=prompt.ids, heal=prompt.heal, max_new_tokens=2
            )
        )

    async def stop(self) -> None:
        await self.bridge.stop()
        self._preparing.shutdown(wait=False)
        self._reader.workspaces.close()

    async def answer(
        self,
        question: Question,
        asker: Asker,
        progress: Callable[[Progress], None] | None = None,
    ) -> Generation:
        """As `EngineBridge.generate`. progress: see `GenerationRequest`."""
        self.in_flight += 1
        try:
            request = attrs.evolve(
                await self._prepared(question, asker),
                id=str(next(self._ids)),
                owner=asker.owner,
                session=asker.session,
                deadline=asker.deadline,
                stop_texts=question.stop_texts,
                progress=progress,
            )
            return await self.bridge.generate(request)
        finally:
            self.in_flight -= 1

    async def _prepared(self, question: Question, asker: Asker) -> GenerationRequest:
        """Tokenised, in a thread if that takes long. Raises EngineGone once the model
        has stopped."""
        self.bridge.check()
        known = self._knows(asker) and self.in_flight <= CROWD
        if known or self.in_flight == 1 or question.chars <= SHORT_CHARS:
            return self._reader.request(question)  # sooner than a thread wakes
        loop = asyncio.get_running_loop()
        read = self._reader.request
        return await loop.run_in_executor(self._preparing, read, question)

    def _knows(self, asker: Asker) -> bool:
        """Whether this document was asked about, which from now on it was."""
        if asker.session is None:
            return False
        name = asker.owner, asker.session
        known = name in self._known
        self._known[name] = None
        self._known.move_to_end(name)
        if len(self._known) > KEPT_SESSIONS:
            self._known.popitem(last=False)
        return known

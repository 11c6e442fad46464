"""From a question to the tokens that a model is asked."""

from __future__ import annotations

import attrs

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.copying import Remembered
from tabwise_model.infill import MIN_PROMPT, Hole, Infiller
from tabwise_model.prompt import Prompt, plain_prompt
from tabwise_model.request import GenerationRequest
from tabwise_server.serving.engine.workspaces import Workspaces
from tabwise_server.serving.question import Question, Workspace

# Characters. What the model is shown is far less; the rest is there to be copied from.
MOST_PREFIX, MOST_SUFFIX, MOST_CONTEXT = 32_000, 8_000, 32_000


class Reader:
    """Of one checkpoint. window: tokens of prompt and answer; width: lines that are
    carried on at once, at most."""

    def __init__(self, checkpoint: Checkpoint, window: int, width: int) -> None:
        self._tokenizer = checkpoint.tokenizer
        self._window, self._width = window, width
        self._infiller = Infiller(checkpoint.tokenizer, window)
        self._remembered = checkpoint.remembered
        self.workspaces = Workspaces(checkpoint.tokenizer)

    def prompt(self, question: Question) -> Prompt:
        """What the model reads for it."""
        request = self.request(question)
        return Prompt(request.prompt, request.heal)

    def request(self, question: Question) -> GenerationRequest:
        """Tokenised; its id and what concerns the asker are yet to be filled in."""
        wanted, about = question.wanted, question.about
        if not isinstance(about, str):
            wanted = attrs.evolve(wanted, width=min(wanted.width, self._width))
            held = self._held(question.workspace)
            return self._infiller.request("", nearest(about), wanted, remembered=held)
        new_tokens = max(1, min(wanted.max_new_tokens, self._window - MIN_PROMPT))
        prompt = plain_prompt(self._tokenizer, about, window=self._window - new_tokens)
        return GenerationRequest(
            id="",
            prompt=prompt.ids,
            heal=prompt.heal,
            max_new_tokens=new_tokens,
            sampling=wanted.sampling,
        )

    def _held(self, workspace: Workspace | None) -> Remembered | None:
        """What to copy from beside the question's own texts: a workspace as it is now,
        rather than what the checkpoint brings along."""
        if workspace is not None:
            repository = self.workspaces.look(workspace)
            if repository.places:
                return repository.without(workspace.path)
        return self._remembered


def nearest(hole: Hole) -> Hole:
    """What of `hole` is tokenised: as much as there is, but of very long texts only
    what is nearest to the cursor, so that none of them holds the server up."""
    room, context = MOST_CONTEXT, []
    for path, text in reversed(hole.context):
        if len(text) <= room:
            context.append((path, text))
            room -= len(text)
    return attrs.evolve(
        hole,
        prefix=hole.prefix[-MOST_PREFIX:],
        suffix=hole.suffix[:MOST_SUFFIX],
        context=tuple(reversed(context)),
    )

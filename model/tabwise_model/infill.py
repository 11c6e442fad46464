"""From the texts around a cursor to a request for the engine; the same for the backend
and for the evaluation, so that what is measured is what is served."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from tabwise_model.copying import CopySource, Remembered
from tabwise_model.prompt import fim_prompt
from tabwise_model.request import GenerationRequest, Sampling, Search, Stop
from tabwise_model.tokenizer import Tokenizer

MIN_PROMPT = 32  # tokens that a prompt may always have


@attrs.frozen(kw_only=True)
class Hole:
    """What stands around a cursor. context: (path, text) of other files, the most
    useful last. indent: columns of the cursor's line, for Stop.BLOCK."""

    prefix: str
    suffix: str = ""
    context: Sequence[tuple[str, str]] = ()
    indent: int = 0


@attrs.frozen(kw_only=True)
class Wanted:
    """What to make of it. width: lines carried on at once where a line is searched, 1
    for none; min_probability, min_part_probability: see `Search`."""

    max_new_tokens: int = 48
    stop: Stop = Stop.LINE
    sampling: Sampling = Sampling()
    width: int = 4
    min_probability: float = 0.0
    min_part_probability: float | None = None
    copying: bool = True


class Infiller:
    """Makes requests for one model."""

    def __init__(self, tokenizer: Tokenizer, window: int) -> None:
        """window: tokens of prompt and completion together."""
        self._tokenizer = tokenizer
        self._window = window

    def request(
        self,
        name: str,
        hole: Hole,
        wanted: Wanted,
        *,
        remembered: Remembered | None = None,
    ) -> GenerationRequest:
        """The request to fill `hole`, by that name. remembered: a repository to copy
        from, beside what the hole brings."""
        new_tokens = max(1, min(wanted.max_new_tokens, self._window - MIN_PROMPT))
        prompt = fim_prompt(
            self._tokenizer,
            hole.prefix,
            hole.suffix,
            hole.context,
            window=self._window - new_tokens,
        )
        greedy = wanted.sampling.temperature == 0
        copies = greedy and wanted.copying
        searched = greedy and wanted.stop is not Stop.NONE and wanted.width > 1
        return GenerationRequest(
            id=name,
            prompt=prompt.ids,
            heal=prompt.heal,
            max_new_tokens=new_tokens,
            sampling=wanted.sampling,
            stop=wanted.stop,
            block_indent=hole.indent,
            search=self._search(wanted) if searched else None,
            copy=self._source(hole, remembered) if copies else None,
        )

    def _search(self, wanted: Wanted) -> Search:
        return Search(
            width=wanted.width,
            min_probability=wanted.min_probability,
            min_part_probability=wanted.min_part_probability,
        )

    def _source(self, hole: Hole, remembered: Remembered | None) -> CopySource:
        """All texts at hand, without what the model is to write again."""
        written = len(hole.prefix) - len(self._tokenizer.last_piece(hole.prefix))
        texts = [text for _, text in hole.context]
        texts += [hole.prefix[:written], hole.suffix]
        ids = [self._tokenizer.encode_by_paragraphs(text) for text in texts]
        return CopySource(ids, remembered, before=ids[-2])

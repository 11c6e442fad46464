"""The likeliest line, not the likeliest token each time.

Several unfinished lines are carried on together, in one batch. A line ends by any token
that begins with a line break, so all of those count for one end; lines of equal text
are one. What is returned carries the probability of this very line, and as it only
falls while a line grows, the search ends as soon as no unfinished line can beat the
best finished one, or reach the least that is wanted: with a floor of 1/4 at most four
lines are ever alive, and mostly one or none. Where no line is likely enough, the
beginning of one may be.
(Newline-terminated hypotheses: JetBrains' Full Line Code Completion, arXiv 2405.08704.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import islice

import attrs

from tabwise_model.choosing import Chosen, Row
from tabwise_model.copying import CopySource
from tabwise_model.healing import TokenIndex
from tabwise_model.request import Finish, GenerationRequest, Line, Search
from tabwise_model.sampling import Logits, NotFinite
from tabwise_model.stop import end_of_line

_LETTER = re.compile(rb"[\w\x80-\xff]")
# Where a word ends that something else follows, or other visible text.
_END = re.compile(rb"[\w\x80-\xff](?=[^\w\x80-\xff])|[^\w\x80-\xff\s]\Z")
LEAST_FOLLOWING = 0.02  # of a token, to be asked whether a word ends before it
CONTEXT = 16  # tokens of the prompt that copying looks at


@attrs.frozen(kw_only=True)
class Hypothesis:
    """A line so far. parent: its place among the hypotheses of the step before.

    newest: the token that is to be computed next. tokens, logprobs: those that are part
    of the text, which what is written again before the cursor is not.
    """

    score: float = 0.0  # natural log of its probability
    text: bytes = b""
    heal: bytes = b""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    written: tuple[int, ...] = ()  # all tokens behind the prompt
    parent: int = 0

    @property
    def visible(self) -> bool:
        return bool(self.text.strip())


@attrs.define
class _Finished:
    """A text's first hypothesis, and the probability of all of them."""

    hypothesis: Hypothesis
    finish: Finish
    share: float = 0.0


class LineSearch:
    """The search of one request: `ask`, let `choosing.choose` answer, `advance`."""

    def __init__(
        self,
        request: GenerationRequest,
        search: Search,
        index: TokenIndex,
        written: Sequence[int] = (),
    ) -> None:
        """written: tokens of the request's lines before this one."""
        heal = b"" if written else request.heal
        self.alive: list[Hypothesis] = [Hypothesis(heal=heal)]
        self.width = search.width
        self._least = _log(search.min_probability)
        part = search.min_part_probability
        self._least_part = math.inf if part is None else _log(part)
        self._part: tuple[bytes, Hypothesis] | None = None  # the longest so far
        self._index = index
        self._copy: CopySource | None = request.copy
        self._context = (*request.prompt[-CONTEXT:], *written)
        self._max_tokens = request.max_new_tokens - len(written)
        self._finished: dict[bytes, _Finished] = {}
        self._best = -math.inf  # natural log of the likeliest finished line's share

    def ask(self, rows: Sequence[Logits]) -> list[Row]:
        """What to choose from for each hypothesis, given its logits (V,)."""
        return [
            self._row(hypothesis, row)
            for hypothesis, row in zip(self.alive, rows, strict=True)
        ]

    def advance(self, chosen: Sequence[Chosen | NotFinite]) -> bool:
        """Grow every hypothesis by a token, given what may follow; returns whether the
        search goes on, with `alive` its hypotheses, the likeliest first. Raises
        NotFinite."""
        grown = [
            child
            for place, (hypothesis, found) in enumerate(
                zip(self.alive, chosen, strict=True)
            )
            for child in self._grow(place, hypothesis, found)
        ]
        grown.sort(key=lambda child: (-child.score, child.parent, child.written))
        self.alive = []
        for child in grown:
            if child.score <= self._floor or len(self.alive) == self.width:
                break
            if not self._ends(child):
                self.alive.append(child)
        self.alive = [child for child in self.alive if child.score > self._floor]
        return bool(self.alive)

    def give_up(self) -> None:
        """Count what is unfinished as it stands: there is no room for more."""
        for hypothesis in self.alive:
            self._finish(hypothesis, hypothesis.text, hypothesis.score, Finish.LENGTH)
        self.alive = []

    def lines(self) -> list[Line]:
        """What was found, the likeliest first."""
        least = math.exp(self._least)
        likely = sorted(
            (-found.share, text)
            for text, found in self._finished.items()
            if found.share >= least
        )
        return [self._line(text) for _, text in likely[: self.width]]

    def part(self) -> Line | None:
        """The longest beginning of a line that is likely enough, None if none is."""
        if self._part is None:
            return None
        text, hypothesis = self._part
        return Line(
            text=text,
            tokens=list(hypothesis.tokens),
            logprobs=list(hypothesis.logprobs),
            written=list(hypothesis.written),
            probability=math.exp(hypothesis.score),
            finish=Finish.PART,
        )

    def _note_part(self, hypothesis: Hypothesis, found: Chosen) -> None:
        """What a hypothesis wrote up to the end of its last word, which may be the
        newest, given what may follow."""
        if hypothesis.score < self._least_part:
            return
        text = hypothesis.text
        ends = [match.end() for match in _END.finditer(text)]
        if self._word_is_over(hypothesis, found):
            ends.append(len(text))
        if ends and (self._part is None or ends[-1] > len(self._part[0])):
            self._part = text[: ends[-1]], hypothesis

    def _word_is_over(self, hypothesis: Hypothesis, found: Chosen) -> bool:
        """Whether a word ends behind its last letter, so likely that with it the part
        is still as likely as is wanted."""
        if not _LETTER.match(hypothesis.text[-1:]):
            return False
        over, on = found.ends, 0.0
        for token, share in zip(found.ids, found.shares, strict=True):
            if _LETTER.match(self._index.bytes_of[token]):
                on += share
            else:
                over += share
        if not over:
            return False
        return hypothesis.score + math.log(over / (over + on)) >= self._least_part

    @property
    def _floor(self) -> float:
        return max(self._least, self._best)

    def _row(self, hypothesis: Hypothesis, logits: Logits) -> Row:
        return Row(
            logits,
            (*self._context, *hypothesis.written),
            self._copy,
            self._index.line_ends if hypothesis.visible else self._index.ends,
            self._index.allowed(hypothesis.heal) if hypothesis.heal else None,
            self._least_asked(hypothesis),
        )

    def _least_asked(self, hypothesis: Hypothesis) -> float:
        """How likely a token must be to be told of."""
        least = self._least_beside(hypothesis)
        sure = hypothesis.text and hypothesis.score >= self._least_part
        return min(least, LEAST_FOLLOWING) if sure else least

    def _least_beside(self, hypothesis: Hypothesis) -> float:
        """How likely a token must be for this hypothesis to go on with it."""
        return math.exp(min(0.0, self._floor - hypothesis.score))

    def _grow(
        self, place: int, hypothesis: Hypothesis, chosen: Chosen | NotFinite
    ) -> list[Hypothesis]:
        """Its likeliest children; its end is counted at once, itself kept as
        a part where it may be one."""
        if isinstance(chosen, NotFinite):
            raise chosen
        self._note_part(hypothesis, chosen)
        if chosen.ends > 0:
            score = hypothesis.score + math.log(chosen.ends)
            kind = Finish.LINE if hypothesis.visible else Finish.END
            self._finish(hypothesis, hypothesis.text, score, kind)
        least = self._least_beside(hypothesis)  # an end may have raised it
        return [
            self._child(place, hypothesis, token, share)
            for token, share in islice(
                zip(chosen.ids, chosen.shares, strict=True), self.width
            )
            if share > least
        ]

    def _child(
        self, place: int, parent: Hypothesis, token: int, p: float
    ) -> Hypothesis:
        piece, logprob = self._index.bytes_of[token], math.log(p)
        healed = min(len(piece), len(parent.heal))
        kept = len(piece) > healed or not healed
        return Hypothesis(
            score=parent.score + logprob,
            text=parent.text + piece[healed:],
            heal=parent.heal[healed:],
            tokens=(*parent.tokens, token) if kept else parent.tokens,
            logprobs=(*parent.logprobs, logprob) if kept else parent.logprobs,
            written=(*parent.written, token),
            parent=place,
        )

    def _ends(self, child: Hypothesis) -> bool:
        """Whether its newest token ended the line, or its last token was written."""
        cut = end_of_line(child.text)
        if cut is not None:
            self._finish(child, child.text[:cut], child.score, Finish.LINE)
        elif len(child.tokens) >= self._max_tokens:
            self._finish(child, child.text, child.score, Finish.LENGTH)
        else:
            return False
        return True

    def _finish(
        self, hypothesis: Hypothesis, text: bytes, score: float, finish: Finish
    ) -> None:
        """Add a finished line's share to what its text already has."""
        text = text.rstrip(b" \t\r")
        known = self._finished.get(text)
        if known is None:
            known = self._finished[text] = _Finished(hypothesis, finish)
        known.share += math.exp(score)
        if known.share > 0:
            self._best = max(self._best, math.log(known.share))

    def _line(self, text: bytes) -> Line:
        found = self._finished[text]
        return Line(
            text=text,
            tokens=list(found.hypothesis.tokens),
            logprobs=list(found.hypothesis.logprobs),
            written=self._broken(found.hypothesis),
            probability=found.share,
            finish=found.finish,
        )

    def _broken(self, hypothesis: Hypothesis) -> list[int]:
        """What it wrote with one line break behind it, whether its last token brought
        none, one or more."""
        written, cut = list(hypothesis.written), end_of_line(hypothesis.text)
        if cut is None:
            return [*written, self._index.exact[b"\n"]]
        last = written.pop()
        beyond = len(hypothesis.text) - cut
        piece = self._index.bytes_of[last][:-beyond] + b"\n"
        return [*written, self._index.exact.get(piece, last)]


def _log(probability: float) -> float:
    return math.log(probability) if probability else -math.inf

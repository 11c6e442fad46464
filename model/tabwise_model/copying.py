"""Copying from the text at hand: what followed the last time this code stood there.

A small model writes plausible code; a file repeats itself. The tokens that followed
earlier occurrences of the last few tokens, in the file and in other files that the
request brings, are a second opinion about the next token, and reach far beyond the
model's window. Both are mixed as probabilities; how much the copy weighs is said by
`copy_gates`. A tuned checkpoint remembers its repository: a third opinion, mixed in
before the file's own, and trusted as far as the text before the cursor reads like the
repository. (A cache language model: Kuhn and De Mori 1990; blended over lengths of
agreement as in PPM, Cleary and Witten 1984.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_model.copy_gates import GATES, features
from tabwise_model.occurrences import (
    GAP,
    LONGEST,
    NOWHERE,
    Span,
    agreements,
    in_order,
    nearest,
    occurrences,
)
from tabwise_model.tokenizer import Ids

# 0 behind code whose tokens agree with a remembered repository over 1.5 tokens in the
# mean, as any code does, 1 at three, most at six. Fitted on six packages and on the
# standard library; see docs/tuning.md.
TRUST_BY_MEAN_AGREEMENT = (1.5, 3.0, 6.0), (0.0, 1.0, 1.35)
TRUST_TOKENS = 128  # before the cursor that are asked
TRUST_PRIOR = 16, 2.0  # so many more tokens, and the mean they stand for
MOST_REMEMBERED = 256  # occurrences that are looked at, those that agree longest
NOTHING = np.empty(0, np.int32)
# What shorter agreements count for beside longer ones, in occurrences.
SHORT_PRIOR, LONG_PRIOR = 1.0, 0.5


@attrs.frozen
class Copied:
    """What may follow: ids (K,), one an occurrence, each with its share (K,) of the
    probability; how many tokens before them agree at the longest, and in how many
    places. trust: in what is remembered, None for a text at hand."""

    ids: Ids
    probabilities: npt.NDArray[np.float32]
    agreement: int
    occurrences: int
    trust: float | None = None

    def shares(self, vocab: int) -> npt.NDArray[np.float32]:
        """(vocab,): each token's, of all its occurrences."""
        found = np.zeros(vocab, np.float32)
        np.add.at(found, self.ids, self.probabilities)
        return found


@attrs.frozen(eq=False)
class Remembered:
    """A repository's texts. ids (N,): one run of them with gaps between, LONGEST of
    which stand first; order (M,): see `in_order`. skipped: places in `ids` from which
    nothing is copied, and which prove nothing."""

    ids: Ids
    order: Ids
    skipped: Span = NOWHERE

    @classmethod
    def of(cls, texts: Iterable[Ids]) -> Remembered:
        ids = _one_run([GAP] * LONGEST, texts)
        return cls(ids, in_order(ids))

    @property
    def tokens(self) -> int:
        return int((self.ids != GAP).sum())

    def check(self, vocab_size: int) -> None:
        """Raise ValueError if a file brought what no text gave."""
        for name, part in (("ids", self.ids), ("order", self.order)):
            if part.ndim != 1 or part.dtype != np.int32:
                raise ValueError(f"{name} must be int32 (N,), got {part.dtype}")
        places = self.order
        if len(self.ids) < LONGEST or (self.ids[:LONGEST] != GAP).any():
            raise ValueError(f"ids must begin with {LONGEST} gaps")
        if self.ids.min() < GAP or self.ids.max() >= vocab_size:
            raise ValueError(f"ids must be under {vocab_size}")
        if (
            len(places)
            and not LONGEST <= places.min() <= places.max() < len(self.ids) - 1
        ):
            raise ValueError("order must name places in ids")
        if (self.ids[places] == GAP).any() or (self.ids[places + 1] == GAP).any():
            raise ValueError("order must name places that something follows")

    def agreements(self, before: Ids) -> Ids:
        """How many tokens agree behind each of the last TRUST_TOKENS of `before`."""
        return agreements(self.ids, self.order, before, TRUST_TOKENS, self.skipped)

    def predict(self, context: Sequence[int], trust: float) -> Copied | None:
        """As `CopySource.predict` of one text, of the MOST_REMEMBERED occurrences that
        agree longest; nothing without trust."""
        if not trust:
            return None
        found = nearest(self.ids, self.order, context, MOST_REMEMBERED, self.skipped)
        return _copied(*found, trust)


def trust_after(agreed: Ids) -> float:
    """In what is remembered, behind tokens that agree with it over so many
    (TRUST_TOKENS at most); 0 for none."""
    tokens, mean = TRUST_PRIOR
    of_all = (int(agreed.sum()) + tokens * mean) / (len(agreed) + tokens)
    return float(np.interp(of_all, *TRUST_BY_MEAN_AGREEMENT))


class CopySource:
    """Texts to copy from, and what is remembered beside them.

    ids (N,): the texts as one run with gaps between them, and before the first. trust:
    in what is remembered.
    """

    def __init__(
        self,
        texts: Iterable[Ids],
        remembered: Remembered | None = None,
        before: Ids = NOTHING,
    ) -> None:
        """before: what stands before the cursor, by which what is remembered is
        trusted."""
        self.ids = _one_run([GAP], texts)
        self.remembered = remembered
        self.trust = 0.0
        if remembered is not None:
            self.trust = trust_after(remembered.agreements(before))

    def __len__(self) -> int:
        return len(self.ids)

    def predict(self, context: Sequence[int]) -> tuple[Copied, ...]:
        """What followed the longest agreements with the end of `context`, in what is
        remembered and then in the texts; nothing where its last token stands nowhere.
        """
        found = _copied(*occurrences(self.ids, context))
        if self.remembered is None:
            return () if found is None else (found,)
        opinions = self.remembered.predict(context, self.trust), found
        return tuple(one for one in opinions if one is not None)


def _one_run(first: list[int], texts: Iterable[Ids]) -> Ids:
    gap = np.array([GAP], np.int32)
    parts = [np.array(first, np.int32), *(p for t in texts for p in (t, gap))]
    return np.concatenate(parts, dtype=np.int32)


def _copied(after: Ids, agreed: Ids, trust: float | None = None) -> Copied | None:
    if not len(after):
        return None
    counts = np.bincount(agreed).tolist()
    shares = np.array(_shares(counts), np.float32)[agreed]
    longest = len(counts) - 1
    return Copied(after, shares, longest, counts[longest], trust)


def _shares(counts: list[int]) -> list[float]:
    """The share of one occurrence, by tokens of agreement.

    counts: occurrences by tokens of agreement, the last not 0. For each length in turn,
    what the occurrences that agree so far say is blended with what the shorter lengths
    say, which counts for as many occurrences as its prior.
    """
    given, left, reached = [0.0] * len(counts), 1.0, 0
    for length in reversed(range(1, len(counts))):
        if counts[length]:
            reached += counts[length]
            prior = LONG_PRIOR if length > 2 else SHORT_PRIOR
            given[length] = left / (reached + prior)
            left *= prior / (reached + prior)
    whole = 1 - left
    return [share / whole for share in accumulate(given)]


def mix(probabilities: npt.NDArray[np.float32], copied: Iterable[Copied]) -> None:
    """Mix what may be copied into the model's probabilities (V,), in place; of several,
    what comes later into what came before, each weighed by what the model itself says.
    """
    by_model = probabilities.copy()
    for one in copied:
        shares = one.shares(len(probabilities))
        weight = weight_of(one, shares, by_model)
        probabilities *= np.float32(1 - weight)
        probabilities += np.float32(weight) * shares


def weight_of(
    copied: Copied,
    shares: npt.NDArray[np.float32],
    by_model: npt.NDArray[np.float32],
) -> float:
    """What a copy weighs beside the model, 0..1; with little trust, less than its gate
    says, who was fitted behind a repository's own code. shares (V,): its tokens'."""
    said = features_of(copied, shares, by_model)
    if copied.trust is None:
        return GATES.text.weight(said)
    return GATES.remembered.weight(said) * min(copied.trust, 1.0)


def features_of(
    copied: Copied,
    shares: npt.NDArray[np.float32],
    by_model: npt.NDArray[np.float32],
) -> list[float]:
    """As `copy_gates.features`."""
    likeliest = int(shares.argmax())
    return features(
        copied.agreement,
        copied.occurrences,
        float(shares[likeliest]),
        float(by_model[likeliest]),
        float(by_model.max()),
        copied.trust,
    )

"""Copying from the text at hand: what followed the last time this code stood there.

A small model writes plausible code; a file repeats itself. The tokens that followed
earlier occurrences of the last few tokens, in the file and in other files that the
request brings, are a second opinion about the next token, and reach far beyond the
model's window. Both are mixed as probabilities, the copy weighing the more the longer
the text agrees. (A cache language model: Kuhn and De Mori 1990; blended over lengths of
agreement as in PPM, Cleary and Witten 1984.)
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_model.runners.native_library import locked_library
from tabwise_model.tokenizer import Ids

LONGEST = 16  # tokens of agreement that are told apart
GAP = -1  # between two texts; nothing is copied across it
# The copy's weight by tokens of agreement, 0..16: fitted on validation packages by
# `tabwise evaluate --study copy-weights`.
_BY_AGREEMENT = "0 .1 .2 .25 .3 .35 .4 .45 .5 .5 .55 .55 .55 .6 .6 .6 .75"
WEIGHTS = tuple(map(float, _BY_AGREEMENT.split()))
# What shorter agreements count for beside longer ones, in occurrences.
SHORT_PRIOR, LONG_PRIOR = 1.0, 0.5


@attrs.frozen
class Copied:
    """What may follow: ids (K,), one an occurrence, each with its share (K,) of the
    probability, and how many tokens before them agree at the longest."""

    ids: Ids
    probabilities: npt.NDArray[np.float32]
    agreement: int

    @property
    def weight(self) -> float:
        return WEIGHTS[self.agreement]


class CopySource:
    """Texts to copy from, as one run of ids with gaps between them."""

    def __init__(self, texts: Iterable[Ids]) -> None:
        gap = np.array([GAP], np.int32)
        parts = [gap, *(p for t in texts for p in (t, gap))]
        self._ids: Ids = np.concatenate(parts, dtype=np.int32)

    def __len__(self) -> int:
        return len(self._ids)

    def predict(self, context: Sequence[int]) -> Copied | None:
        """What followed the longest agreements with the end of `context`; None where
        its last token stands nowhere."""
        after, agreed = occurrences(self._ids, context)
        if not len(after):
            return None
        counts = np.bincount(agreed).tolist()
        shares = np.array(_shares(counts), np.float32)[agreed]
        return Copied(after, shares, len(counts) - 1)


def occurrences(text: Ids, context: Sequence[int]) -> tuple[Ids, Ids]:
    """The token after each occurrence of the context's last one, and how many tokens
    agree there, up to LONGEST. `text` begins with a gap."""
    library = locked_library()
    if library is None or not len(context):
        return occurrences_in_numpy(text, context)
    end = array("i", context[-LONGEST:])
    after, agreed = np.empty_like(text), np.empty_like(text)
    found = library.tabwise_occurrences(
        text.ctypes.data,
        len(text),
        end.buffer_info()[0],
        len(end),
        LONGEST,
        GAP,
        after.ctypes.data,
        agreed.ctypes.data,
    )
    return after[:found], agreed[:found]


def occurrences_in_numpy(text: Ids, context: Sequence[int]) -> tuple[Ids, Ids]:
    """As `occurrences`; what the native one is compared with."""
    if not len(context):
        return np.empty(0, np.int32), np.empty(0, np.int32)
    at = np.flatnonzero(text[:-1] == context[-1])
    at = at[text[at + 1] != GAP]
    agreed = np.ones(len(at), np.int32)
    still = np.arange(len(at))
    # a gap agrees with nothing, and one stands first: at - back never wraps
    for back in range(1, min(LONGEST, len(context))):
        still = still[text[at[still] - back] == context[-1 - back]]
        if not len(still):
            break
        agreed[still] += 1
    return text[at + 1], agreed


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


def mix(probabilities: npt.NDArray[np.float32], copied: Copied | None) -> None:
    """Mix what may be copied into the model's probabilities (V,), in place."""
    if copied is not None and copied.weight:
        probabilities *= 1 - copied.weight
        shares = copied.probabilities * np.float32(copied.weight)
        np.add.at(probabilities, copied.ids, shares)

"""Where earlier text says what the text at hand says, and what followed there.

`occurrences` reads a whole text, which costs nothing to prepare: for a file that
changes with each key. `nearest` and `agreements` look into an order of all places that
was sorted beforehand: for a repository, of which a span may be skipped, as of the file
that is being written. Each is compiled, and written once more in numpy.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from tabwise_model.runners.native_library import locked_library
from tabwise_model.tokenizer import Ids

LONGEST = 16  # tokens of agreement that are told apart
GAP = -1  # between two texts; nothing is copied across it

Found = tuple[Ids, Ids]  # the token after each occurrence, and how many agree there
Span = tuple[int, int]  # places from the first up to the second
NOWHERE: Span = (0, 0)


def occurrences(text: Ids, context: Sequence[int]) -> Found:
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


def occurrences_in_numpy(text: Ids, context: Sequence[int]) -> Found:
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


def in_order(text: Ids) -> Ids:
    """The places (M,) of `text` that something follows, sorted by the LONGEST tokens
    that end there, read backwards. `text` begins with LONGEST gaps."""
    places = np.flatnonzero((text[:-1] != GAP) & (text[1:] != GAP))
    sixteen = len(text) and text.max() < np.iinfo(np.uint16).max
    ranks = (text - GAP).astype(np.uint16 if sixteen else np.int32)  # a radix sort's
    keys = [ranks[places - back] for back in reversed(range(LONGEST))]
    order: Ids = places[np.lexsort(keys)].astype(np.int32)
    return order


def nearest(
    text: Ids,
    order: Ids,
    context: Sequence[int],
    most: int,
    skipped: Span = NOWHERE,
) -> Found:
    """As `occurrences`, but at most `most`, those that agree longest first; of equals,
    those nearest in `order` to where the context would stand."""
    library = locked_library()
    if library is None or not len(context):
        return nearest_in_numpy(text, order, context, most, skipped)
    end = array("i", context[-LONGEST:])
    after, agreed = np.empty(most, np.int32), np.empty(most, np.int32)
    found = library.tabwise_nearest(
        text.ctypes.data,
        order.ctypes.data,
        len(order),
        *skipped,
        end.buffer_info()[0],
        len(end),
        most,
        after.ctypes.data,
        agreed.ctypes.data,
    )
    return after[:found], agreed[:found]


def nearest_in_numpy(
    text: Ids,
    order: Ids,
    context: Sequence[int],
    most: int,
    skipped: Span = NOWHERE,
) -> Found:
    """As `nearest`; what the native one is compared with."""
    order = order[(order < skipped[0]) | (order >= skipped[1])]
    wanted = list(context[-LONGEST:][::-1])

    def backwards(place: int) -> list[int]:
        ids: list[int] = text[place - len(wanted) + 1 : place + 1][::-1].tolist()
        return ids

    middle = bisect_left(order, wanted, key=backwards)
    around = [order[middle : middle + most], order[max(0, middle - most) : middle]]
    at = np.concatenate([around[0], around[1][::-1]])
    same = np.ones(len(at), bool)
    agreed = np.zeros(len(at), np.int32)
    for back, token in enumerate(wanted):
        same &= text[at - back] == token
        agreed += same
    best = np.argsort(-agreed, kind="stable")[:most]
    best = best[agreed[best] > 0]
    return text[at[best] + 1], agreed[best]


def agreements(
    text: Ids, order: Ids, context: Ids, last: int, skipped: Span = NOWHERE
) -> Ids:
    """How many tokens agree at the longest, up to LONGEST, behind each of the last
    `last` tokens of `context`, all of it where it is shorter; as `nearest` would say.
    """
    last = min(last, len(context))
    library = locked_library()
    if library is None:
        return agreements_in_numpy(text, order, context, last, skipped)
    context = np.ascontiguousarray(context, np.int32)
    agreed = np.empty(last, np.int32)
    library.tabwise_agreements(
        text.ctypes.data,
        order.ctypes.data,
        len(order),
        *skipped,
        context.ctypes.data,
        len(context),
        LONGEST,
        last,
        agreed.ctypes.data,
    )
    return agreed


def agreements_in_numpy(
    text: Ids, order: Ids, context: Ids, last: int, skipped: Span = NOWHERE
) -> Ids:
    """As `agreements`; what the native one is compared with."""
    known = context.tolist()
    ends = range(len(known) - last + 1, len(known) + 1)
    found = (nearest_in_numpy(text, order, known[:end], 1, skipped)[1] for end in ends)
    return np.array([agreed[0] if len(agreed) else 0 for agreed in found], np.int32)

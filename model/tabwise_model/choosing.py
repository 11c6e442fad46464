"""From a row of logits to the few tokens that matter.

In the native library where it is, else in numpy: the same but for rounding. numpy gives
Python's lock away in each call on a whole row, and where other threads are busy waits
to have it back. What was measured: docs/native.md, "Choosing".
"""

from __future__ import annotations

import ctypes
import math

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_model.copying import Copied, mix
from tabwise_model.healing import Ids
from tabwise_model.runners.native_library import NativeCopied, choosing_library

Logits = npt.NDArray[np.float32]


class NotFinite(ValueError):
    """The logits hold NaN or infinity, so no token can be chosen from them."""


@attrs.frozen
class Likeliest:
    """tokens: ids with their probabilities, the likeliest first. share: the probability
    of all tokens that were marked."""

    tokens: list[tuple[int, float]]
    share: float


def likeliest(
    logits: Logits, copied: Copied | None, marked: Ids, *, inside: bool, most: int
) -> Likeliest:
    """The `most` likeliest tokens of logits (V,), those of probability 0 left out.

    marked: ids of which alone they are (`inside`), or are not. copied: a second opinion
    to mix in. Raises NotFinite.
    """
    library = choosing_library()
    if library is None:
        return likeliest_in_numpy(logits, copied, marked, inside=inside, most=most)
    logits = np.ascontiguousarray(logits, np.float32)
    marked = np.ascontiguousarray(marked, np.int32)
    scratch = np.empty_like(logits)
    ids, values = (ctypes.c_int32 * most)(), (ctypes.c_float * most)()
    share = ctypes.c_float()
    found = library.tabwise_likeliest(
        logits.ctypes.data,
        len(logits),
        ctypes.byref(_handed_over(copied)),
        marked.ctypes.data,
        len(marked),
        inside,
        most,
        scratch.ctypes.data,
        ids,
        values,
        ctypes.byref(share),
    )
    if found < 0:
        raise _not_finite()
    return Likeliest(list(zip(ids[:found], values[:found], strict=True)), share.value)


def likeliest_in_numpy(
    logits: Logits, copied: Copied | None, marked: Ids, *, inside: bool, most: int
) -> Likeliest:
    """As `likeliest`; what the native one is compared with."""
    p = probabilities(logits, copied)
    share = float(p[marked].sum())
    if not inside:
        p[marked] = 0
    places = marked if inside else np.arange(len(p), dtype=np.int32)
    order = places[np.argsort(-p[places], kind="stable")[:most]]
    return Likeliest([(int(i), float(p[i])) for i in order if p[i] > 0], share)


def probabilities(
    logits: Logits, copied: Copied | None = None
) -> npt.NDArray[np.float32]:
    """Softmax of logits (V,), with what may be copied mixed in. Raises NotFinite."""
    top = logits.max()
    if not math.isfinite(top):
        raise _not_finite()
    p: npt.NDArray[np.float32] = np.exp(logits - top)
    p /= p.sum()
    mix(p, copied)
    return p


def _handed_over(copied: Copied | None) -> NativeCopied:
    """For as long as `copied` lives."""
    if copied is None:
        return NativeCopied()
    return NativeCopied(
        copied.ids.ctypes.data,
        copied.probabilities.ctypes.data,
        len(copied.ids),
        copied.weight,
    )


def _not_finite() -> NotFinite:
    return NotFinite("the model computed logits that are not finite")

"""Which tokens the hypotheses of a step's searches go on with.

All of a step's rows are handed over at once. For a few, Python's lock is kept, which
takes longer to have back than they do; for more, whoever answers requests runs
meanwhile. Written once more in numpy.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_model.copy_gates import GATES, LEAST_SHARE, Gate
from tabwise_model.copying import (
    LONG_PRIOR,
    MOST_REMEMBERED,
    SHORT_PRIOR,
    CopySource,
)
from tabwise_model.healing import Ids
from tabwise_model.occurrences import GAP, LONGEST
from tabwise_model.runners.native_library import free_library, locked_library
from tabwise_model.sampling import Logits, NotFinite, probabilities

MOST_CHOSEN, NO_PATH = 16, -2  # of native/tabwise.h
FEW_ROWS = 16  # about 0.3 ms; Python hands its lock on after 0.5
_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float


@attrs.frozen
class Row:
    """What is asked of logits (V,) behind `context`, its last LONGEST tokens at least.

    ends: ids that count together and are not chosen. allowed: ids that alone may come,
    None for all; then there are no ends. least: probability; what has no more is not
    wanted.
    """

    logits: Logits
    context: Sequence[int]
    copy: CopySource | None
    ends: Ids
    allowed: Ids | None
    least: float


@attrs.frozen
class Chosen:
    """ends: the probability of all of them. ids, shares: of the likeliest others."""

    ends: float
    ids: list[int]
    shares: list[float]


def choose(rows: Sequence[Row], width: int, path: str = "") -> list[Chosen | NotFinite]:
    """The `width` likeliest tokens of each row; NotFinite in place of a row's whose
    logits are not. path: an instruction set by name, the best by default; raises
    ValueError for one that is not there."""
    library = locked_library() if len(rows) <= FEW_ROWS else free_library()
    if library is None or width > MOST_CHOSEN or not rows:
        return [_or_not_finite(row, width) for row in rows]
    asked = (_Row * len(rows))()
    contexts = array("i")
    places = []
    for row in rows:
        places.append(4 * len(contexts))
        contexts.extend(row.context[-LONGEST:])
    start = contexts.buffer_info()[0]
    for one, row, place in zip(asked, rows, places, strict=True):
        _fill(one, row, start + place)
    found = (_Chosen * len(rows))()
    vocab = len(rows[0].logits)
    copying = ctypes.byref(_COPYING)
    failed = library.tabwise_choose(
        path.encode(), asked, len(rows), vocab, width, copying, found
    )
    if failed == NO_PATH:
        raise ValueError(f"this processor has no instruction set {path!r}")
    if failed:
        raise MemoryError("there is no room to choose tokens in")
    return [_chosen(one) for one in found]


def choose_in_numpy(row: Row, width: int) -> Chosen:
    """As `choose` of one row; what it is compared with. Raises NotFinite."""
    copied = () if row.copy is None else row.copy.predict(row.context)
    p = probabilities(row.logits, copied)
    ends = 0.0
    if row.allowed is not None:
        ids = row.allowed
        p = p[ids] / p[ids].sum()
    else:
        ids = np.arange(len(p))
        ends = float(p[row.ends].sum())
        p[row.ends] = 0
    likely = np.flatnonzero(p > row.least)
    likely = likely[np.argsort(-p[likely], kind="stable")][:width]
    return Chosen(ends, ids[likely].tolist(), p[likely].tolist())


def _or_not_finite(row: Row, width: int) -> Chosen | NotFinite:
    try:
        return choose_in_numpy(row, width)
    except NotFinite as error:
        return error


class _Row(ctypes.Structure):
    """`TabwiseRow` of native/tabwise.h."""

    _fields_ = (
        *((name, _POINTER) for name in ("logits", "context", "text", "held", "order")),
        *((name, _POINTER) for name in ("ends", "allowed")),
        *((name, _INT) for name in ("context_length", "text_length", "held_count")),
        *((name, _INT) for name in ("skipped_from", "skipped_to")),
        *((name, _INT) for name in ("ends_count", "allowed_count")),
        *((name, _FLOAT) for name in ("trust", "least")),
    )


class _Gate(ctypes.Structure):
    """`TabwiseGate` of native/tabwise.h."""

    _fields_ = (
        *((name, _POINTER) for name in ("hidden", "bias", "out")),
        ("last", _FLOAT),
        *((name, _INT) for name in ("size", "features")),
    )

    @classmethod
    def of(cls, gate: Gate) -> _Gate:
        """It points into `gate`, which lives on."""
        parts = (gate.hidden, gate.bias, gate.out)
        return cls(*(part.ctypes.data for part in parts), gate.last, *gate.hidden.shape)


class _Copying(ctypes.Structure):
    """`TabwiseCopying` of native/tabwise.h."""

    _fields_ = (
        *((name, _Gate) for name in ("text", "held")),
        *((name, _INT) for name in ("longest", "most", "gap")),
        ("least_share", _FLOAT),
        *((name, ctypes.c_double) for name in ("short_prior", "long_prior")),
    )


class _Chosen(ctypes.Structure):
    """`TabwiseChosen` of native/tabwise.h."""

    _fields_ = (
        ("ends", _FLOAT),
        ("found", _INT),
        ("ids", _INT * MOST_CHOSEN),
        ("shares", _FLOAT * MOST_CHOSEN),
    )


_COPYING = _Copying(
    _Gate.of(GATES.text),
    _Gate.of(GATES.remembered),
    LONGEST,
    MOST_REMEMBERED,
    GAP,
    LEAST_SHARE,
    SHORT_PRIOR,
    LONG_PRIOR,
)


def _fill(one: _Row, row: Row, context: int) -> None:
    one.logits = row.logits.ctypes.data
    one.context, one.context_length = context, min(len(row.context), LONGEST)
    one.least = row.least
    if row.allowed is not None:
        one.allowed, one.allowed_count = _address(row.allowed), len(row.allowed)
    else:
        one.ends, one.ends_count = _address(row.ends), len(row.ends)
    source = row.copy
    if source is None:
        return
    one.text, one.text_length = _address(source.ids), len(source.ids)
    held = source.remembered
    if held is not None:
        one.held, one.order = _address(held.ids), _address(held.order)
        one.held_count, one.trust = len(held.order), source.trust
        one.skipped_from, one.skipped_to = held.skipped


def _address(ids: npt.NDArray[np.int32] | Ids) -> int:
    return ids.ctypes.data


def _chosen(one: _Chosen) -> Chosen | NotFinite:
    if one.found < 0:
        return NotFinite("the model computed logits that are not finite")
    return Chosen(one.ends, one.ids[: one.found], one.shares[: one.found])

"""The native choice of tokens against numpy's, and both against what is asked."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabwise_model.choosing import (
    Likeliest,
    NotFinite,
    likeliest,
    likeliest_in_numpy,
    probabilities,
)
from tabwise_model.copying import Copied, occurrences, occurrences_in_numpy
from tabwise_model.runners.native_library import choosing_library

native = pytest.mark.skipif(
    choosing_library() is None, reason="the native library is not built"
)
VOCAB = 70  # no multiple of a vector


def a_row(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 6, VOCAB).astype(np.float32)


@st.composite
def copies(draw: st.DrawFn) -> Copied | None:
    ids = draw(st.lists(st.integers(0, VOCAB - 1), max_size=12))
    if not ids:
        return None
    shares = np.full(len(ids), 1 / len(ids), np.float32)
    return Copied(np.array(ids, np.int32), shares, draw(st.integers(0, 16)))


MARKS = st.lists(st.integers(0, VOCAB - 1), unique=True, max_size=VOCAB)


@native
@given(st.integers(0, 10_000), copies(), MARKS, st.booleans(), st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_both_choose_the_same(
    seed: int, copied: Copied | None, marks: list[int], inside: bool, most: int
) -> None:
    row, marked = a_row(seed), np.array(marks, np.int32)
    found = likeliest(row, copied, marked, inside=inside, most=most)
    wanted = likeliest_in_numpy(row, copied, marked, inside=inside, most=most)
    p = probabilities(row, copied)
    # those that are nearly equal may change places
    for (token, got), (_, highest) in zip(found.tokens, wanted.tokens, strict=True):
        assert math.isclose(got, float(p[token]), rel_tol=2e-5)
        assert math.isclose(got, highest, rel_tol=2e-5)
    assert len({token for token, _ in found.tokens}) == len(found.tokens)
    assert math.isclose(found.share, wanted.share, rel_tol=2e-5, abs_tol=1e-30)


@given(st.integers(0, 10_000), MARKS, st.booleans())
def test_the_likeliest_and_the_share_of_the_marked(
    seed: int, marks: list[int], inside: bool
) -> None:
    p = probabilities(a_row(seed))
    marked = np.array(marks, np.int32)
    found = likeliest(a_row(seed), None, marked, inside=inside, most=3)
    among = [i for i in range(VOCAB) if (i in marks) == inside]
    wanted = sorted(among, key=lambda i: -p[i])[:3]
    assert [i for i, _ in found.tokens] == wanted
    assert found.share == pytest.approx(p[marked].sum(), rel=1e-4)


def test_of_equals_the_first_comes_first_and_minus_infinity_is_never_chosen() -> None:
    row = np.array([1, 5, 5, -np.inf, 5], np.float32)
    none = np.empty(0, np.int32)
    found = likeliest(row, None, none, inside=False, most=5)
    assert [i for i, _ in found.tokens] == [1, 2, 4, 0]
    assert sum(p for _, p in found.tokens) == pytest.approx(1)


@pytest.mark.parametrize("strange", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 3, VOCAB - 1])
@pytest.mark.parametrize("choose", [likeliest, likeliest_in_numpy])
def test_logits_that_are_not_finite_are_refused(
    choose: object, strange: float, place: int
) -> None:
    assert callable(choose)
    row = a_row(1)
    row[place] = strange
    with pytest.raises(NotFinite):
        choose(row, None, np.empty(0, np.int32), inside=False, most=1)


def test_where_nothing_is_allowed_nothing_is_chosen() -> None:
    nothing = likeliest(a_row(2), None, np.empty(0, np.int32), inside=True, most=2)
    assert nothing == Likeliest([], 0.0)


@native
@given(
    st.lists(st.integers(-1, 3), max_size=60), st.lists(st.integers(0, 3), max_size=20)
)
def test_both_find_the_same_occurrences(text: list[int], context: list[int]) -> None:
    source = np.array([-1, *text, -1], np.int32)
    after, agreed = occurrences(source, context)
    wanted_after, wanted_agreed = occurrences_in_numpy(source, context)
    assert after.tolist() == wanted_after.tolist()
    assert agreed.tolist() == wanted_agreed.tolist()

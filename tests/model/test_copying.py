"""Copying against a plain reading of what it says."""

import math
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.engines import alone, request
from support.tokenizer import TOKENIZER
from tabwise_model.copying import (
    GAP,
    LONG_PRIOR,
    LONGEST,
    SHORT_PRIOR,
    CopySource,
    mix,
    occurrences,
    occurrences_in_numpy,
)
from tabwise_model.infill import Hole, Infiller, Wanted
from tabwise_model.request import Sampling, Stop
from tabwise_model.runners.native_library import locked_library

IDS = st.lists(st.integers(0, 3), max_size=40)


def source_of(*texts: list[int]) -> CopySource:
    return CopySource(np.array(text, np.int32) for text in texts)


def agreement(text: list[int], end: int, context: list[int]) -> int:
    """How many tokens before `end` are the last ones of the context."""
    count = 0
    while (
        count < min(end, len(context), LONGEST)
        and text[end - 1 - count] == context[-1 - count]
    ):
        count += 1
    return count


@given(st.lists(IDS, max_size=3), IDS)
def test_it_tells_what_followed_the_longest_agreements(
    texts: list[list[int]], context: list[int]
) -> None:
    seen = [
        (agreement(text, end, context), text[end])
        for text in texts
        for end in range(1, len(text))
    ]
    seen = [(length, token) for length, token in seen if length]
    found = source_of(*texts).predict(context)
    assert (found is None) == (not seen)
    if found is None:
        return
    p: dict[int, float] = {}
    for length in sorted({length for length, _ in seen}):
        counts = Counter(token for agreed, token in seen if agreed >= length)
        prior = LONG_PRIOR if length > 2 else SHORT_PRIOR
        total = counts.total() + prior
        p = {t: (counts[t] + prior * p.get(t, 0)) / total for t in {*p, *counts}}
    whole = sum(p.values())
    assert found.agreement == max(length for length, _ in seen)
    shares: dict[int, float] = defaultdict(float)
    for token, share in zip(found.ids.tolist(), found.probabilities, strict=True):
        shares[token] += float(share)
    assert shares.keys() == p.keys()
    for token, share in shares.items():
        assert math.isclose(share, p[token] / whole, rel_tol=1e-5)


@pytest.mark.skipif(locked_library() is None, reason="the native library is not built")
@given(st.lists(st.integers(GAP, 3), max_size=60), IDS)
def test_numpy_and_the_native_library_find_the_same(
    text: list[int], context: list[int]
) -> None:
    source = np.array([GAP, *text, GAP], np.int32)
    after, agreed = occurrences(source, context)
    wanted_after, wanted_agreed = occurrences_in_numpy(source, context)
    assert after.tolist() == wanted_after.tolist()
    assert agreed.tolist() == wanted_agreed.tolist()


def test_nothing_is_copied_from_one_text_into_the_next() -> None:
    assert source_of([1, 2], [3, 1]).predict([2]) is None


@given(IDS, IDS)
def test_mixed_probabilities_are_probabilities(
    text: list[int], context: list[int]
) -> None:
    p = np.full(4, 0.25, np.float32)
    mix(p, source_of(text).predict(context))
    assert math.isclose(float(p.sum()), 1, rel_tol=1e-5)


@given(st.text(alphabet="ab \n\t(", max_size=60))
def test_paragraphs_encode_to_the_text(text: str) -> None:
    ids = TOKENIZER.encode_by_paragraphs(text).tolist()
    assert TOKENIZER.decode(ids) == text
    if not re.search(r"\n\n[ \t]+\n", text):
        assert ids == TOKENIZER.encode(text)


def test_a_repeated_line_is_copied_and_only_by_greedy_requests() -> None:
    infiller = Infiller(TOKENIZER, 64)
    hole = Hole(prefix="total = first + second\n" * 3 + "total = ")
    wanted = Wanted(max_new_tokens=15, width=1)
    copied = infiller.request("a", hole, wanted)
    assert copied.search is None
    assert TOKENIZER.decode(alone(copied)) == "first + second"
    sampled = Wanted(sampling=Sampling(temperature=0.5))
    assert infiller.request("a", hole, sampled).copy is None
    block = infiller.request("a", hole, Wanted(stop=Stop.BLOCK))
    assert (block.search is None, block.copy is None) == (False, False)


def test_without_a_source_nothing_changes() -> None:
    plain = request("a", "def f(x):", max_new_tokens=6)
    empty = request("a", "def f(x):", max_new_tokens=6, copy=source_of())
    assert alone(plain) == alone(empty)

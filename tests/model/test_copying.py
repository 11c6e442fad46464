"""Copying against a plain reading of what it says."""

import math
from collections import Counter, defaultdict
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.engines import alone, request
from support.tokenizer import TOKENIZER
from tabwise_model.copying import (
    LONG_PRIOR,
    MOST_REMEMBERED,
    SHORT_PRIOR,
    TRUST_TOKENS,
    CopySource,
    Remembered,
    mix,
    trust_after,
    weight_of,
)
from tabwise_model.infill import Hole, Infiller, Wanted
from tabwise_model.occurrences import (
    GAP,
    LONGEST,
    NOWHERE,
    agreements,
    agreements_in_numpy,
    nearest,
    nearest_in_numpy,
    occurrences,
    occurrences_in_numpy,
)
from tabwise_model.repository import Repository
from tabwise_model.request import Sampling, Stop
from tabwise_model.runners.native_library import locked_library

IDS = st.lists(st.integers(0, 3), max_size=40)


def source_of(*texts: list[int]) -> CopySource:
    return CopySource(np.array(text, np.int32) for text in texts)


def remembered(*texts: list[int]) -> Remembered:
    return Remembered.of(np.array(text, np.int32) for text in texts)


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
    opinions = source_of(*texts).predict(context)
    assert bool(opinions) == bool(seen)
    if not opinions:
        return
    (found,) = opinions
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
    assert source_of([1, 2], [3, 1]).predict([2]) == ()
    assert remembered([1, 2], [3, 1]).predict([2], 1.0) is None


@given(st.lists(IDS, max_size=3), IDS)
def test_what_is_remembered_says_what_a_text_at_hand_would(
    texts: list[list[int]], context: list[int]
) -> None:
    plain = source_of(*texts).predict(context)
    found = remembered(*texts).predict(context, 0.5)
    assert (found is None) == (not plain)
    if found is None:
        return
    assert found.agreement == plain[0].agreement
    assert found.occurrences == plain[0].occurrences
    assert (found.trust, plain[0].trust) == (0.5, None)
    p, q = np.zeros(4), np.zeros(4)
    np.add.at(p, found.ids, found.probabilities)
    np.add.at(q, plain[0].ids, plain[0].probabilities)
    np.testing.assert_allclose(p, q, rtol=1e-5)


@given(st.lists(IDS, max_size=3), IDS, st.integers(1, 9))
def test_numpy_and_the_native_library_find_the_same_nearest(
    texts: list[list[int]], context: list[int], most: int
) -> None:
    held = remembered(*texts)
    wanted = nearest_in_numpy(held.ids, held.order, context, most)
    found = nearest(held.ids, held.order, context, most)
    assert [part.tolist() for part in found] == [part.tolist() for part in wanted]
    everywhere = [
        agreement(text, end, context) for text in texts for end in range(1, len(text))
    ]
    longest = sorted(filter(None, everywhere), reverse=True)[:most]
    assert found[1].tolist() == longest


@given(st.lists(IDS, max_size=3), IDS, st.integers(0, 50))
def test_numpy_and_the_native_library_find_the_same_agreements(
    texts: list[list[int]], context: list[int], last: int
) -> None:
    held, ids = remembered(*texts), np.array(context, np.int32)
    found = agreements(held.ids, held.order, ids, last)
    wanted = agreements_in_numpy(held.ids, held.order, ids, min(last, len(ids)))
    assert found.tolist() == wanted.tolist()
    longest = [
        max(
            (
                agreement(text, at, context[:end])
                for text in texts
                for at in range(1, len(text))
            ),
            default=0,
        )
        for end in range(1, len(context) + 1)
    ]
    assert found.tolist() == longest[len(longest) - min(last, len(longest)) :]


@given(st.lists(IDS, min_size=1, max_size=4), IDS, st.data())
def test_a_file_that_is_left_out_might_as_well_not_be_there(
    texts: list[list[int]], context: list[int], data: st.DataObject
) -> None:
    files = {str(n): np.array(text, np.int32) for n, text in enumerate(texts)}
    path = data.draw(st.sampled_from(sorted(files)))
    most = data.draw(st.integers(1, 9))
    every = sum(map(len, texts)) + 1
    held = Repository.of(files).without(path)
    others = Repository.of({k: v for k, v in files.items() if k != path}).without(None)
    ids = np.array(context, np.int32)
    for one in (nearest, nearest_in_numpy):

        def look(where: Remembered, most: int, one: Any = one) -> list[Any]:
            """(longest agreement first, what follows): which of equals come first
            depends on the text that stands before."""
            after, agreed = one(where.ids, where.order, context, most, where.skipped)
            assert agreed.tolist() == sorted(agreed, reverse=True)
            pairs = zip(agreed.tolist(), after.tolist(), strict=True)
            return [agreed.tolist(), sorted(map(list, pairs))]

        assert look(held, every) == look(others, every)
        assert look(held, most)[0] == look(others, most)[0]
    for two in (agreements, agreements_in_numpy):
        found, wanted = (
            two(where.ids, where.order, ids, len(ids), where.skipped).tolist()
            for where in (held, others)
        )
        assert found == wanted


def test_a_repository_gives_back_what_it_was_made_of() -> None:
    files = {"a.py": np.array([1, 2], np.int32), "b.py": np.array([3], np.int32)}
    held = Repository.of(files)
    for path, ids in files.items():
        found = held.ids_of(path)
        assert found is not None
        assert found.tolist() == ids.tolist()
    assert held.ids_of("c.py") is None
    assert held.without("c.py").skipped == held.without(None).skipped == NOWHERE


@pytest.mark.parametrize("largest", [9, 70_000])
def test_places_are_sorted_by_what_stands_before(largest: int) -> None:
    rng = np.random.default_rng(largest)
    held = remembered(*rng.integers(largest - 4, largest + 1, (3, 60)).tolist())

    def before(place: int) -> list[int]:
        ids: list[int] = held.ids[place - LONGEST + 1 : place + 1][::-1].tolist()
        return ids

    ends = [before(place) for place in held.order.tolist()]
    assert ends == sorted(ends)
    assert len(ends) == 3 * 59


def test_trust_grows_with_what_the_text_before_shares() -> None:
    strange, own = np.ones(TRUST_TOKENS, int), np.full(TRUST_TOKENS, LONGEST)
    assert trust_after(strange) == 0
    assert 0 < trust_after(own[:0]) < trust_after(own[:2]) < trust_after(own)


def test_what_is_remembered_is_silent_in_strange_code() -> None:
    code, held = list(range(40)), remembered(list(range(40)))
    texts = [np.array([1, 2, 3], np.int32)]
    near = CopySource(texts, held, np.array(code[:30], np.int32))
    far = CopySource(texts, held, np.array(code[30:0:-1], np.int32))
    assert [len(source.predict(code[:20])) for source in (near, far)] == [1, 0]


def test_the_file_weighs_more_than_what_is_remembered() -> None:
    source = CopySource([np.array([1, 2, 3], np.int32)], remembered([1, 2, 0]))
    # behind nothing it is trusted a little
    old, new = source.predict([1, 2])
    assert (old.ids.tolist(), new.ids.tolist()) == ([0], [3])
    p = np.full(4, 0.25, np.float32)
    mix(p, (old, new))
    assert p[3] > p[0] > p[1]


def test_with_little_trust_what_is_remembered_weighs_little() -> None:
    held, by_model = remembered([1, 2, 3]), np.full(4, 0.25, np.float32)
    weights = []
    for trust in (1e-6, 0.1, 1.0):
        found = held.predict([1, 2], trust)
        assert found is not None
        weights.append(weight_of(found, found.shares(4), by_model))
    assert weights[0] < 1e-6 < weights[1] < 0.1 < weights[2] < 1


def test_a_common_token_is_looked_for_in_few_places() -> None:
    found = remembered([1, 2] * 2 * MOST_REMEMBERED).predict([1], 1.0)
    assert found is not None
    assert found.ids.tolist() == [2] * MOST_REMEMBERED


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"ids": np.zeros(40, np.int32)}, "must begin with 16 gaps"),
        ({"ids": np.zeros(40, np.int64)}, "must be int32"),
        ({"ids": np.full(40, 9, np.int32)}, "must begin with 16 gaps"),
        ({"ids": np.array([GAP] * 16 + [1, 4, GAP], np.int32)}, "must be under 4"),
        ({"order": np.array([3], np.int32)}, "must name places in ids"),
        ({"order": np.array([19], np.int32)}, "must name places in ids"),
        ({"order": np.array([[17]], np.int32)}, "must be int32"),
        ({"order": np.array([18], np.int32)}, "that something follows"),
    ],
)
def test_what_no_text_gives_is_refused(change: dict[str, Any], what: str) -> None:
    held = attrs.evolve(remembered([1, 2, 3]), **change)
    with pytest.raises(ValueError, match=what):
        held.check(4)


@given(IDS, IDS)
def test_mixed_probabilities_are_probabilities(
    text: list[int], context: list[int]
) -> None:
    p = np.full(4, 0.25, np.float32)
    mix(p, source_of(text).predict(context))
    assert math.isclose(float(p.sum()), 1, rel_tol=1e-5)


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

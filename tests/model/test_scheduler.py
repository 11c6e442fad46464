from collections.abc import Callable, Hashable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabwise_model.healing import TokenIndex
from tabwise_model.request import GenerationRequest
from tabwise_model.scheduler import (
    AGE_TOKENS,
    MIN_SHARE,
    MOST_PREFILLING,
    OLDEST_SHARE,
    Scheduler,
    fair_shares,
    nested_shares,
    shortest_first,
)
from tabwise_model.sequence import Sequence


@pytest.mark.parametrize(
    ("lengths", "budget", "shares"),
    [
        ([], 128, []),
        ([1], 128, [1]),
        ([500], 128, [128]),
        ([500, 500], 128, [128, 0]),
        ([500, 10, 500], 128, [118, 10, 0]),
        ([500, 400, 10], 128, [32, 86, 10]),
        ([500, 90, 90], 128, [32, 90, 6]),
        ([10, 500, 20], 128, [10, 98, 20]),
        ([90, 80], 2, [1, 1]),
    ],
)
def test_the_shortest_prompts_are_computed_first(
    lengths: list[int], budget: int, shares: list[int]
) -> None:
    assert shortest_first(lengths, budget) == shares


@pytest.mark.parametrize(
    ("lengths", "budget", "shares"),
    [
        ([], 128, []),
        ([1], 128, [1]),
        ([500], 128, [128]),
        ([500, 500], 128, [64, 64]),
        ([500, 10, 500], 128, [42, 10, 76]),
        ([500, 10, 20], 128, [98, 10, 20]),
        ([90] * 10, 128, [16] * 8 + [0] * 2),
        ([90] * 9 + [1], 128, [16] * 7 + [15, 0, 1]),
        ([90, 90], 8, [8, 0]),
    ],
)
def test_owners_share_prompt_tokens_fairly(
    lengths: list[int], budget: int, shares: list[int]
) -> None:
    assert fair_shares(lengths, budget) == shares


@pytest.mark.parametrize("divide", [fair_shares, shortest_first])
@given(st.lists(st.integers(1, 600), min_size=1, max_size=40), st.integers(1, 300))
def test_shares_use_the_budget_and_always_advance_the_oldest(
    divide: Callable[[list[int], int], list[int]], lengths: list[int], budget: int
) -> None:
    shares = divide(lengths, budget)
    assert sum(shares) == min(budget, sum(lengths))
    assert all(0 <= s <= n for s, n in zip(shares, lengths, strict=True))
    assert shares[0] >= min(lengths[0], budget, MIN_SHARE, budget // OLDEST_SHARE)


@pytest.mark.parametrize(
    ("whose", "lengths", "shares"),
    [
        ("aa aa ab", [90, 90, 90], [38, 0, 90]),
        ("a. a. a. b.", [90, 90, 90, 90], [64, 0, 0, 64]),
        ("a. a. a. b.", [90, 90, 9, 90], [55, 0, 9, 64]),
        ("as as at bs", [90, 90, 90, 20], [27, 0, 81, 20]),
        ("as bt cu", [500, 10, 500], [42, 10, 76]),
    ],
)
def test_who_asks_little_does_not_wait_for_anothers_crowd(
    whose: str, lengths: list[int], shares: list[int]
) -> None:
    names: list[tuple[Hashable, ...]] = [
        (name[0], i if name[1] == "." else name[1])
        for i, name in enumerate(whose.split())
    ]
    assert nested_shares(names, lengths, 128) == shares


def sequence(prompt: list[int], **options: Any) -> Sequence:
    request = GenerationRequest(id="any", prompt=tuple(prompt), **options)
    return Sequence(request, 0.0, TokenIndex([b"\n"]))


def test_requests_get_slots_in_the_order_in_which_they_came() -> None:
    scheduler = Scheduler(2, 128)
    coming = [sequence([n, 1, 2]) for n in range(3)]
    for one in coming:
        scheduler.add(one)
    admitted = [scheduler.admit(0.0), scheduler.admit(0.0)]
    assert [a.sequence for a in admitted if a] == coming[:2]
    assert scheduler.admit(0.0) is None
    scheduler.remove(coming[0])
    third = scheduler.admit(0.0)
    assert third is not None
    assert third.sequence is coming[2]


def test_a_crowd_of_one_owner_does_not_keep_another_waiting() -> None:
    scheduler = Scheduler(2, 128)
    crowd = [sequence([n, 1, 2], owner="ann") for n in range(9)]
    other = sequence([9, 1, 2], owner="bob")
    for one in [*crowd, other]:
        scheduler.add(one)
    admitted = [scheduler.admit(0.0), scheduler.admit(0.0)]
    assert [a.sequence for a in admitted if a] == [crowd[0], other]


def test_a_crowd_in_one_session_does_not_keep_its_owners_others_waiting() -> None:
    scheduler = Scheduler(2, 128)
    crowd = [sequence([n, 1, 2], session="left.py") for n in range(9)]
    other = sequence([9, 1, 2], session="right.py")
    for one in [*crowd, other]:
        scheduler.add(one)
    admitted = [scheduler.admit(0.0), scheduler.admit(0.0)]
    assert [a.sequence for a in admitted if a] == [crowd[0], other]


def test_who_asks_what_is_being_computed_waits_and_takes_it_over() -> None:
    scheduler = Scheduler(4, 128)
    first = sequence([*range(100), 7], owner="ann")
    second = sequence([*range(100), 8, 9], owner="ann")
    strangers = sequence([*range(100), 8], owner="bob")
    for one in (first, second, strangers):
        scheduler.add(one)
    assert [admitted(scheduler), admitted(scheduler)] == [first, strangers]
    assert scheduler.admit(0.0) is None
    first.computed(first.chunks(90))
    admission = scheduler.admit(0.0)
    assert admission is not None
    assert admission.sequence is second
    assert admission.placement.cached == 90


def test_who_waits_for_a_request_that_is_cancelled_goes_on_from_there() -> None:
    scheduler = Scheduler(4, 128)
    first, second = (sequence([*range(100), n]) for n in (7, 8))
    for one in (first, second):
        scheduler.add(one)
    assert admitted(scheduler) is first
    first.computed(first.chunks(40))
    assert scheduler.admit(0.0) is None
    scheduler.remove(first)
    admission = scheduler.admit(0.0)
    assert admission is not None
    assert admission.sequence is second
    assert admission.placement.cached == 40


def admitted(scheduler: Scheduler) -> Sequence:
    admission = scheduler.admit(0.0)
    assert admission is not None
    return admission.sequence


def test_those_that_decode_take_part_in_every_step() -> None:
    scheduler = Scheduler(3, 32)
    decoding, *prefilling = (sequence([n] * 50) for n in range(3))
    for one in (decoding, *prefilling):
        scheduler.add(one)
        scheduler.admit(0.0)
    decoding.begin_decoding(0.0)
    decoding.pending = (7,)
    planned = {id(s): chunks[0].tokens for s, chunks in scheduler.plan()}
    assert planned == {id(decoding): (7,), id(prefilling[0]): (1,) * 32}


def test_who_types_on_passes_who_begins_but_not_for_ever() -> None:
    def begun(arrived: float, prompt: list[int]) -> Sequence:
        request = GenerationRequest(id="any", prompt=tuple(prompt))
        return Sequence(request, arrived, TokenIndex([b"\n"]))

    waits = 400 / AGE_TOKENS
    scheduler = Scheduler(1, 128)
    new = begun(0.0, list(range(400)))
    at_once, late = begun(waits / 2, [1, 2, 3]), begun(2 * waits, [4, 5, 6])
    for one in (new, at_once, late):
        scheduler.add(one)
    order = []
    while (admission := scheduler.admit(2 * waits)) is not None:
        order.append(admission.sequence)
        scheduler.remove(admission.sequence)
    assert order == [at_once, new, late]


def test_a_crowd_that_begins_leaves_slots_to_those_who_type_on() -> None:
    scheduler = Scheduler(2 * MOST_PREFILLING, 128)
    for n in range(2 * MOST_PREFILLING - 1):
        scheduler.add(sequence([n] * 400))
    typing = sequence([99] * 10)
    while scheduler.admit(0.0) is not None:
        pass
    assert (scheduler.running, scheduler.queued) == (
        MOST_PREFILLING,
        MOST_PREFILLING - 1,
    )
    scheduler.add(typing)
    assert admitted(scheduler) is typing
    other = sequence([98] * 400, owner="bob")
    scheduler.add(other)
    assert admitted(scheduler) is other

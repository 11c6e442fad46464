import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabwise_model.healing import TokenIndex
from tabwise_model.request import GenerationRequest
from tabwise_model.scheduler import MIN_SHARE, Scheduler, fair_shares
from tabwise_model.sequence import Sequence


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
def test_prompt_tokens_are_shared_fairly(
    lengths: list[int], budget: int, shares: list[int]
) -> None:
    assert fair_shares(lengths, budget) == shares


@given(st.lists(st.integers(1, 600), min_size=1, max_size=40), st.integers(1, 300))
def test_shares_use_the_budget_and_always_advance_the_oldest(
    lengths: list[int], budget: int
) -> None:
    shares = fair_shares(lengths, budget)
    assert sum(shares) == min(budget, sum(lengths))
    assert all(0 <= s <= n for s, n in zip(shares, lengths, strict=True))
    assert shares[0] >= min(lengths[0], budget, MIN_SHARE)


def sequence(prompt: list[int]) -> Sequence:
    request = GenerationRequest(id="any", prompt=tuple(prompt))
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


def test_those_that_decode_take_part_in_every_step() -> None:
    scheduler = Scheduler(3, 32)
    decoding, *prefilling = (sequence([n] * 50) for n in range(3))
    for one in (decoding, *prefilling):
        scheduler.add(one)
        scheduler.admit(0.0)
    decoding.begin_decoding(0.0)
    decoding.pending = (7,)
    planned = {id(s): chunks[0].tokens for s, chunks in scheduler.plan()}
    assert planned == {
        id(decoding): (7,),
        id(prefilling[0]): (1,) * 16,
        id(prefilling[1]): (2,) * 16,
    }

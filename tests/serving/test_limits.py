"""Places: how many, for whom, and how fast."""

import contextlib
import math
import random

import pytest

from support.backend import HeldRunner, running_backend
from tabwise_server.errors import Overloaded, TooMany
from tabwise_server.serving.admission.limits import (
    LATE_S,
    ROOM_EACH,
    Limits,
    Place,
    Places,
    Rates,
)


def places(requests: int = 10, tokens: int = 10_000, **more: int) -> Places:
    return Places(Limits(requests=requests, least=4, tokens=tokens, **more))


def take_all(house: Places, caller: str) -> list[Place]:
    """Places for `caller` until it is refused."""
    taken: list[Place] = []
    with contextlib.suppress(Overloaded):
        while True:
            taken.append(house.reserve(caller, 10))
    return taken


def test_prompt_tokens_have_a_bound_of_their_own_but_one_request_always_fits() -> None:
    house = places(tokens=1_000)
    first = house.reserve("ann", 5_000)
    with pytest.raises(Overloaded, match="tokens") as refused:
        house.reserve("ann", 1)
    assert not isinstance(refused.value, TooMany)
    first.release()
    house.reserve("ann", 600)
    house.reserve("ann", 400)


def test_a_request_for_several_answers_takes_several_places_or_none_more() -> None:
    house = places(requests=4)
    place = house.reserve("ann", 10)
    place.widen(2, 20)
    assert (house.taken, house.tokens) == (3, 30)
    with pytest.raises(Overloaded):
        place.widen(2, 20)
    place.release()
    assert (house.taken, house.tokens) == (0, 0)


def test_where_there_are_others_no_crowd_takes_the_last_places() -> None:
    house = places(requests=16)
    house.crowded = lambda: True
    crowd = take_all(house, "ann")
    assert len(crowd) == 12  # three for each that is free
    others = take_all(house, "bob")
    assert len(others) == 3
    with pytest.raises(Overloaded) as refused:
        house.reserve("ann", 10)
    assert refused.value.status == 503  # ours, which a router hands on
    assert house.reserve("eve", 10)


def test_alone_one_may_take_all_places() -> None:
    assert len(take_all(places(requests=16), "ann")) == 16


def test_what_is_refused_holds_nothing() -> None:
    house = places(requests=2, each=1)
    place = house.reserve("ann", 10)
    with pytest.raises(TooMany):
        house.reserve("ann", 10)
    house.reserve("bob", 10).release()
    place.release()
    assert (house.taken, house.tokens) == (0, 0)


def test_where_nobody_waits_for_answers_there_is_room_for_fewer() -> None:
    now = [0.0]
    house = Places(Limits(requests=40, least=16, tokens=10_000), lambda: now[0])

    def one(after_s: float) -> Place:
        place = house.reserve("ann", 10)
        now[0] += after_s
        place.release()
        return place

    one(LATE_S / 2).unanswered()
    assert house.room == 40  # has changed their mind
    one(2 * LATE_S).unanswered()
    one(2 * LATE_S).unanswered()
    assert house.room == 38
    assert len(take_all(house, "ann")) == 38
    assert house.full
    for _ in range(40):
        place = Place(house, "ann", since=0.0, requests=1)
        place.unanswered()
    assert house.room == 16
    for _ in range(round(1 / ROOM_EACH)):
        place.answered()
    assert house.room == 17
    for _ in range(round(40 / ROOM_EACH)):
        place.answered()
    assert house.room == 40


def test_a_small_house_stays_as_it_is() -> None:
    house = places(requests=2)
    Place(house, "ann", since=-1.0, requests=1).unanswered()
    assert house.room == 2


@pytest.mark.parametrize(("lost", "full"), [(0.05, True), (0.15, False)])
def test_one_in_nine_may_be_lost(lost: float, full: bool) -> None:
    house, dice = places(requests=128), random.Random(0)
    place = Place(house, "ann", since=-1.0, requests=1)
    for _ in range(5_000):
        if dice.random() < lost:
            place.unanswered()
        else:
            place.answered()
    assert (house.room > 64) is full


def test_a_minute_of_requests_refills_evenly() -> None:
    now = [0.0]
    rates = Rates(60, lambda: now[0])
    for _ in range(60):
        rates.spend("ann")
    with pytest.raises(TooMany, match="60 times a minute") as refused:
        rates.spend("ann")
    assert refused.value.retry_after_s == pytest.approx(1.0)
    rates.spend("bob")
    now[0] += 2.0
    rates.spend("ann")
    rates.spend("ann")
    with pytest.raises(TooMany):
        rates.spend("ann")
    now[0] = math.inf
    rates.spend("ann")


async def test_too_many_in_a_minute_are_told_when_to_come_back() -> None:
    async with running_backend(HeldRunner(), max_per_minute=2) as backend:
        body = {"code": "x", "max_tokens": 1}
        for _ in range(2):
            assert (await backend.post("/complete", body))[0] == 200
        async with backend.http.post(f"{backend.url}/complete", json=body) as response:
            assert response.status == 429
            assert 1 <= int(response.headers["Retry-After"]) <= 30
        assert backend.service.places.taken == 0

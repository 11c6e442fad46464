import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabwise_model.slots import (
    LEFT_AGES,
    Placement,
    Slot,
    SlotTable,
    common_prefix,
)

TOKENS = st.lists(st.integers(0, 2), max_size=40)


@given(TOKENS, TOKENS, TOKENS)
def test_the_common_prefix_is_the_longest(
    shared: list[int], left: list[int], right: list[int]
) -> None:
    a, b = shared + left, shared + right
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length in (len(a), len(b)) or a[length] != b[length]


def fill(table: SlotTable, prompt: list[int], session: str | None = None) -> Slot:
    """Take a slot for `prompt` as if it were computed."""
    placement = take(table, prompt, session)
    placement.slot.tokens = list(prompt)
    return placement.slot


def take(table: SlotTable, prompt: list[int], session: str | None = None) -> Placement:
    placement = table.acquire(prompt, session=session)
    assert placement is not None
    return placement


HEAD = list(range(100, 140))


def test_at_rest_is_what_nobody_works_on() -> None:
    table = SlotTable(3)
    table.release(fill(table, HEAD))
    other = fill(table, [1, 2, 3, 4, 5])
    after = table.at_rest()
    assert after.held([*HEAD, 7]) == len(HEAD)
    assert after.held([*other.tokens, 7]) == 0
    assert not any(slot.busy for slot in after.slots)
    take(table, [*HEAD, 7]).slot.keep(1)  # what becomes of the old one
    assert after.held([*HEAD, 7]) == len(HEAD)
    placement = take(after, [1, 2, 3])
    assert placement.slot.index != 0  # the least recently used goes first


def test_the_last_prompt_token_is_always_computed() -> None:
    table = SlotTable(1)
    table.release(fill(table, HEAD))
    assert take(table, HEAD).cached == len(HEAD) - 1


def test_a_prompt_that_goes_on_takes_the_slot_that_holds_its_beginning() -> None:
    table = SlotTable(3)
    for prompt in (HEAD, [1, 2, 3], [4, 5, 6]):
        table.release(fill(table, prompt))
    placement = take(table, [*HEAD, 7])
    assert placement == Placement(table.slots[0], len(HEAD), None)


def test_what_a_busy_slot_holds_is_copied() -> None:
    table = SlotTable(2)
    busy = fill(table, HEAD)
    placement = take(table, [*HEAD, 7])
    assert placement == Placement(table.slots[1], len(HEAD), busy)
    assert placement.slot.tokens == HEAD


def test_a_longer_cache_is_not_destroyed_for_a_short_common_head() -> None:
    table = SlotTable(2)
    full = fill(table, HEAD + list(range(200, 300)))
    table.release(full)
    placement = take(table, [*HEAD, 7])
    assert placement.slot is not full
    assert placement.copy_from is full
    assert len(full.tokens) == 140


def test_a_short_head_is_not_worth_a_copy() -> None:
    table = SlotTable(2)
    fill(table, HEAD)
    assert take(table, [*HEAD[:8], 7]) == Placement(table.slots[1], 0, None)


def test_the_least_recently_used_slot_goes_first() -> None:
    table = SlotTable(2)
    older, newer = fill(table, [1] * 20), fill(table, [2] * 20)
    table.release(newer)
    table.release(older)
    assert take(table, [3] * 20).slot is newer


def test_nothing_is_given_when_all_are_busy() -> None:
    table = SlotTable(1)
    fill(table, HEAD)
    assert table.acquire(HEAD) is None


def test_what_one_owner_had_computed_is_as_unknown_to_another() -> None:
    table = SlotTable(2)
    table.release(fill(table, HEAD))
    for owner in ("ann", "bob"):
        placement = table.acquire(HEAD, owner=owner)
        assert placement is not None
        assert (placement.cached, placement.copy_from) == (0, None)
        placement.slot.tokens = list(HEAD)
        table.release(placement.slot)
    again = table.acquire(HEAD, owner="bob")
    assert again is not None
    assert again.cached == len(HEAD) - 1


def test_after_forgetting_nothing_is_cached() -> None:
    table = SlotTable(2)
    table.release(fill(table, HEAD))
    table.forget()
    assert take(table, HEAD).cached == 0


@pytest.mark.parametrize("slots", [1, 2, 3])
@given(data=st.data())
def test_a_placement_never_promises_what_is_not_held(
    slots: int, data: st.DataObject
) -> None:
    table = SlotTable(slots)
    busy: list[Slot] = []
    for _ in range(data.draw(st.integers(1, 12))):
        leave = data.draw(st.booleans())
        if busy and leave:
            table.release(busy.pop(data.draw(st.integers(0, len(busy) - 1))))
            continue
        prompt = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=60))
        owner = data.draw(st.sampled_from("ab"))
        held = {slot.index: list(slot.tokens) for slot in table.slots}
        theirs = {slot.index for slot in table.slots if slot.owner == owner}
        placement = table.acquire(prompt, owner=owner)
        if placement is None:
            assert len(busy) == slots
            continue
        source = placement.copy_from or placement.slot
        assert placement.slot not in busy
        assert placement.slot.owner == owner
        assert not placement.cached or source.index in theirs
        assert held[source.index][: placement.cached] == prompt[: placement.cached]
        assert placement.slot.tokens == prompt[: placement.cached]
        assert placement.cached < len(prompt)
        placement.slot.tokens = list(prompt)
        busy.append(placement.slot)


def test_what_a_session_has_left_goes_before_what_others_type_in() -> None:
    table = SlotTable(4)
    for n, session in enumerate(("a", "b", "c")):
        table.release(fill(table, [n] * 20, session))
    table.release(fill(table, [8] * 20, "c"))  # c is elsewhere: its first slot is left
    table.release(fill(table, [9] * 20, "d"))
    assert [table.held([n] * 21) for n in (0, 1, 2, 8, 9)] == [20, 20, 0, 20, 20]


def test_what_nobody_asked_for_in_long_goes_before_what_a_session_has_just_left() -> (
    None
):
    table = SlotTable(4)
    table.release(fill(table, [0] * 20, "a"))
    for _ in range(LEFT_AGES):
        for n, session in ((1, "b"), (2, "c")):
            table.release(fill(table, [n] * 20, session))
    table.release(fill(table, [8] * 20, "c"))
    table.release(fill(table, [9] * 20, "d"))
    assert [table.held([n] * 21) for n in (0, 1, 2, 8, 9)] == [0, 20, 20, 20, 20]


def test_a_session_that_comes_back_finds_what_it_had_left() -> None:
    table = SlotTable(3)
    there, here = fill(table, [1] * 20, "a"), fill(table, [2] * 20, "a")
    table.release(there)
    table.release(here)
    back = table.acquire([1] * 21, session="a")
    assert back is not None
    assert (back.slot, back.cached) == (there, 20)
    table.release(back.slot)
    fill(table, [3] * 20, "b")  # takes the empty one
    fill(table, [4] * 20, "c")
    assert [table.held([n] * 21) for n in (1, 2)] == [20, 0]


def test_a_crowd_of_searches_leaves_most_slots_their_content() -> None:
    table = SlotTable(16)
    for n in range(16):
        table.release(fill(table, [n] * 20))
    crowd = []
    while (placement := table.acquire([99] * 20, scratch=3)) is not None:
        crowd.append(placement)
    assert len(crowd) == 1  # four slots, of which three are scratch
    assert count_held(table) == 15  # what is only promised keeps its content
    scratch = crowd[0].scratch
    lent = [table.lend(scratch) for _ in range(3)]
    assert len({slot.index for slot in (crowd[0].slot, *lent)}) == 4
    assert count_held(table) == 12
    end(table, crowd[0])
    assert table.acquire([99] * 20, scratch=3) is not None


def count_held(table: SlotTable) -> int:
    return sum(len(slot.tokens) == 20 for slot in table.slots)


@given(slots=st.integers(1, 12), data=st.data())
def test_whoever_was_promised_slots_gets_them(slots: int, data: st.DataObject) -> None:
    table = SlotTable(slots)
    maybe = st.booleans()
    running: list[Placement] = []
    for step in range(20):
        session = data.draw(st.sampled_from((None, "a", "b")))
        scratch = data.draw(st.integers(0, 3))
        placement = table.acquire([step] * 20, scratch, session=session)
        if placement is not None:
            running.append(placement)
        for one in running:
            if one.scratch.promised and data.draw(maybe):
                table.lend(one.scratch)
        if data.draw(maybe) and running:
            end(table, running.pop(0))
        taken = [s.index for p in running for s in (p.slot, *p.scratch.slots)]
        assert len(set(taken)) == len(taken)
    for one in running:
        while one.scratch.promised:
            table.lend(one.scratch)
    for one in running:
        end(table, one)
    assert table.acquire([1], scratch=slots - 1) is not None


def end(table: SlotTable, placement: Placement) -> None:
    table.release(placement.slot, placement.scratch)


def test_one_search_may_always_run() -> None:
    table = SlotTable(4)
    first = table.acquire(HEAD, scratch=3)
    assert first is not None
    assert table.acquire(HEAD, scratch=3) is None
    end(table, first)
    assert table.acquire(HEAD, scratch=3) is not None

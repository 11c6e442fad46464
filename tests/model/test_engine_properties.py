"""Output never depends on what else runs, what is cached, or who goes away."""

from hypothesis import given, settings
from hypothesis import strategies as st

from support.engines import Clock, alone, make_engine, request, run_all
from support.runners import HashRunner
from tabwise_model.engine import Engine
from tabwise_model.request import Finish, Generation

PROMPTS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(PROMPTS, st.integers(0, 4)), min_size=1, max_size=12),
    st.integers(1, 20),
    st.integers(1, 5),
)
def test_output_is_the_same_cached_or_not_batched_or_alone(
    asked: list[tuple[list[int], int]], chunk: int, slots: int
) -> None:
    """Prompts over four tokens share prefixes all the time; steps come in between."""
    engine = make_engine(HashRunner(n_slots=slots), prefill_chunk=chunk)
    results: dict[str, Generation] = {}
    wanted = [request(str(i), prompt) for i, (prompt, _) in enumerate(asked)]
    for one, (_, steps) in zip(wanted, asked, strict=True):
        engine.submit(one)
        for _ in range(steps):
            results.update({result.id: result for result in engine.step()})
    results.update(run_all(engine))
    for one in wanted:
        assert results[one.id].tokens == alone(one)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_cancels_deadlines_and_failures_at_any_time_disturb_nobody(
    data: st.DataObject,
) -> None:
    clock = Clock()
    runner = HashRunner(n_slots=data.draw(st.integers(1, 4)))
    chunk = data.draw(st.integers(1, 40))
    engine = make_engine(runner, prefill_chunk=chunk, clock=clock)
    wanted = {}
    results: dict[str, Generation] = {}
    for i in range(10):
        due = data.draw(st.sampled_from([None, 3.0, 9.0]))
        one = request(str(i), data.draw(PROMPTS), deadline=due)
        wanted[one.id] = one
        engine.submit(one)
        if data.draw(st.booleans()):
            engine.cancel(str(data.draw(st.integers(0, i))))
        if data.draw(st.integers(0, 9)) == 0:
            runner.fail_next = RuntimeError("by the test")
        for _ in range(data.draw(st.integers(0, 3))):
            clock.now += 1
            done = engine.step()
            assert not {result.id for result in done} & results.keys()
            results.update({result.id: result for result in done})
            assert_slots_hold_what_they_say(engine, runner)
    results.update(run_all(engine))
    assert results.keys() == wanted.keys()
    whole = (Finish.END, Finish.LENGTH)
    for name, result in results.items():
        expected = alone(wanted[name])
        assert result.tokens == expected[: len(result.tokens)]
        assert result.finish not in whole or result.tokens == expected


def assert_slots_hold_what_they_say(engine: Engine, runner: HashRunner) -> None:
    for slot in engine._scheduler._slots.slots:
        assert runner.held[slot.index][: len(slot.tokens)] == slot.tokens

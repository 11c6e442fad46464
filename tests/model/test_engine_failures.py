from typing import Any

import numpy as np

from support.engines import alone, make_engine, request, run_all
from support.runners import HashRunner
from tabwise_model.request import Finish


def test_a_runner_that_fails_fails_its_requests_and_no_others() -> None:
    runner = HashRunner(n_slots=1)
    engine = make_engine(runner)
    engine.submit(request("a", "abc"))
    engine.submit(request("b", "abc"))
    runner.fail_next = RuntimeError("out of memory")
    results = run_all(engine)
    assert results["a"].finish is Finish.FAILED
    assert results["a"].error == "RuntimeError: out of memory"
    assert results["b"].tokens == alone(request("b", "abc"))
    assert results["b"].cached_tokens == 0


def test_a_copy_that_fails_fails_only_the_request_that_needed_it() -> None:
    class Broken(HashRunner):
        def copy_slot(self, *where: int) -> None:
            raise RuntimeError("no copy")

    engine = make_engine(Broken(n_slots=2))
    text = "def a_function_with_a_long_name(argument):"
    engine.submit(request("first", text))
    engine.step()
    engine.submit(request("second", text))
    results = run_all(engine)
    assert results["second"].error == "RuntimeError: no copy"
    assert results["first"].tokens == alone(request("first", text))
    engine.submit(request("third", text))
    assert run_all(engine)["third"].tokens == alone(request("third", text))


def test_logits_that_are_not_finite_fail_only_their_own_request() -> None:
    class Poisoned(HashRunner):
        def extend(self, chunks: Any) -> Any:
            logits = super().extend(chunks)
            for row, chunk in zip(logits, chunks, strict=True):
                if self.held[chunk.slot][0] == 7:
                    row[3] = np.nan
            return logits

    engine = make_engine(Poisoned())
    for name, first in (("bad", 7), ("good", 8)):
        engine.submit(request(name, [first, 1, 2]))
    results = run_all(engine)
    assert results["bad"].finish is Finish.FAILED
    assert "not finite" in (results["bad"].error or "")
    assert results["good"].tokens == alone(request("good", [8, 1, 2]))
    engine.submit(request("again", [7, 1, 2]))
    assert run_all(engine)["again"].cached_tokens == 0


def test_failing_all_answers_everyone_and_the_engine_goes_on() -> None:
    engine = make_engine(HashRunner(n_slots=1))
    for name in ("running", "queued"):
        engine.submit(request(name, "abc"))
    engine.step()
    failed = engine.fail_all(RuntimeError("by the test"))
    assert {one.id: one.error for one in failed} == {
        "running": "RuntimeError: by the test",
        "queued": "RuntimeError: by the test",
    }
    assert not engine.has_work
    engine.submit(request("next", "abc"))
    result = run_all(engine)["next"]
    assert result.tokens == alone(request("next", "abc"))
    assert result.cached_tokens == 0

from typing import Any

import numpy as np
import pytest

from support.engines import Clock, make_engine, request, run_all
from support.models import random_checkpoint
from support.runners import HashRunner
from support.tokenizer import TOKENIZER
from tabwise_model.engine import Engine
from tabwise_model.request import (
    Finish,
    Generation,
    GenerationRequest,
    Sampling,
    Stop,
)
from tabwise_model.runners.choose import available_runners, load_runner


@pytest.mark.parametrize("runner", available_runners())
def test_a_real_model_gives_the_same_cached_or_not_and_batched_or_alone(
    runner: str,
) -> None:
    """The native runner to the last bit; torch, whose sums depend on the batch, to
    the same tokens."""
    checkpoint = random_checkpoint("llama")

    def run(*wanted: GenerationRequest) -> tuple[dict[str, Generation], int]:
        model = load_runner(checkpoint, runner=runner, n_slots=4, slot_tokens=64)
        engine = Engine(model, TOKENIZER, prefill_chunk=7)
        for one in wanted:
            engine.submit(one)
        return run_all(engine), engine.counters.cached_tokens

    rng = np.random.default_rng(0)
    stem = [int(i) for i in rng.integers(0, 200, 20)]
    wanted = [
        request(str(n), stem[: 8 + n] + [int(i) for i in rng.integers(0, 200, n)])
        for n in range(12)
    ]
    batched, cached = run(*wanted)
    assert cached > 0
    for one in wanted:
        single = run(one)[0][one.id]
        assert single.tokens == batched[one.id].tokens
        if runner == "native":
            assert single.logprobs == batched[one.id].logprobs


def test_a_keystroke_computes_only_what_is_new() -> None:
    engine = make_engine()
    engine.submit(request("a", "def add(first, second):\n    return fir"))
    run_all(engine)
    before = engine.counters.prefill_tokens
    engine.submit(request("b", "def add(first, second):\n    return firs"))
    result = run_all(engine)["b"]
    assert engine.counters.prefill_tokens - before == 1
    assert result.cached_tokens == result.prompt_tokens - 1


def test_two_documents_with_a_common_head_keep_their_own_slots() -> None:
    engine = make_engine(HashRunner(n_slots=2))
    head = "import os\nimport sys\n\n\n"
    for turn in range(3):
        for name in ("alpha", "beta"):
            text = f"{head}{name} = {name}({name}, {name}){'x' * turn}"
            engine.submit(request(name, text))
            cached = run_all(engine)[name].cached_tokens
            if turn:
                assert cached >= len(TOKENIZER.encode(text)) - 2


def test_who_ask_for_the_same_at_once_have_it_computed_once() -> None:
    engine = make_engine(HashRunner(slot_tokens=400), prefill_chunk=16)
    text = [n % 50 for n in range(200)]
    asked = [request(f"key {n}", [*text, *range(60, 61 + n)]) for n in range(3)]
    for one in asked:
        engine.submit(one)
    found = run_all(engine)
    assert engine.counters.prefill_tokens < 230
    for one in asked:
        single = make_engine(HashRunner(slot_tokens=400))
        single.submit(one)
        assert found[one.id].tokens == run_all(single)[one.id].tokens


def test_a_cancelled_request_is_not_computed_again() -> None:
    runner = HashRunner()
    engine = make_engine(runner, prefill_chunk=4)
    engine.submit(request("gone", "x" * 30))
    engine.submit(request("kept", "y" * 30))
    engine.step()
    slot = runner.calls[-1][0].slot
    engine.cancel("gone")
    before = len(runner.calls)
    results = run_all(engine)
    assert results["gone"].finish is Finish.CANCELLED
    assert all(c.slot != slot for call in runner.calls[before:] for c in call)
    assert engine.counters.cancelled == 1


def test_a_queued_request_can_be_cancelled() -> None:
    engine = make_engine(HashRunner(n_slots=1))
    engine.submit(request("first", "a"))
    engine.submit(request("second", "b"))
    engine.step()
    engine.cancel("second")
    assert run_all(engine)["second"].tokens == []


def test_a_long_prompt_holds_nobody_longer_than_a_chunk() -> None:
    runner = HashRunner(n_slots=4, slot_tokens=2_000)
    engine = make_engine(runner, prefill_chunk=32)
    engine.submit(request("long", "x" * 1_500))
    engine.submit(request("short", "y" * 10))
    steps = 0
    done: set[str] = set()
    while "short" not in done:
        done |= {result.id for result in engine.step()}
        steps += 1
    assert steps == 8
    assert all(sum(len(c.tokens) for c in call) <= 33 for call in runner.calls)


def test_deadlines_end_queued_and_running_requests() -> None:
    clock = Clock()
    engine = make_engine(HashRunner(n_slots=1), clock=clock)
    engine.submit(request("running", "a", deadline=5.0))
    engine.submit(request("queued", "b", deadline=5.0))
    engine.step()
    clock.now = 5.0
    found = {result.id: result.finish for result in engine.step()}
    assert found == {"running": Finish.EXPIRED, "queued": Finish.EXPIRED}
    assert not engine.has_work


def test_an_id_that_is_running_is_refused() -> None:
    engine = make_engine()
    engine.submit(request("a", "abc"))
    with pytest.raises(ValueError, match="already running"):
        engine.submit(request("a", "abc"))
    run_all(engine)
    engine.submit(request("a", "abc"))


def test_a_request_for_no_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1, got 0"):
        make_engine().submit(request("a", "abc", max_new_tokens=0))


@pytest.mark.parametrize("prompt", [[], [1] * 64])
def test_a_prompt_that_fits_no_slot_is_refused(prompt: list[int]) -> None:
    with pytest.raises(ValueError, match=r"1\.\.63 tokens"):
        make_engine().submit(request("a", prompt))


def test_a_full_slot_ends_a_generation() -> None:
    engine = make_engine()
    engine.submit(request("a", [1] * 60, max_new_tokens=50))
    result = run_all(engine)["a"]
    assert result.finish in (Finish.LENGTH, Finish.END)
    assert len(result.tokens) <= 4


class ScriptedRunner(HashRunner):
    """Says a given text, whatever it is asked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.script = [*TOKENIZER.encode(text), TOKENIZER.end]
        self.said = 0

    def extend(self, chunks: Any) -> Any:
        logits = super().extend(chunks) * 0
        logits[:, self.script[self.said]] = 5
        self.said += 1
        return logits


@pytest.mark.parametrize(
    ("stop", "said", "text", "finish"),
    [
        (Stop.LINE, "return x\ny = 1", "return x", Finish.LINE),
        (Stop.LINE, "return x\r\ny", "return x", Finish.LINE),
        (Stop.LINE, "\n\n    a = 1\nb", "\n\n    a = 1", Finish.LINE),
        (Stop.LINE, "return x", "return x", Finish.END),
        (Stop.BLOCK, "a\n    b\n\nc", "a\n    b", Finish.BLOCK),
        (Stop.BLOCK, "a\n\n    b\n\tc\n  d", "a\n\n    b\n\tc", Finish.BLOCK),
        (Stop.NONE, "a\nb", "a\nb", Finish.END),
    ],
)
def test_a_completion_ends_where_it_should(
    stop: Stop, said: str, text: str, finish: Finish
) -> None:
    engine = make_engine(ScriptedRunner(said))
    wanted = request("a", "x", stop=stop, block_indent=4, max_new_tokens=60)
    engine.submit(wanted)
    result = run_all(engine)["a"]
    assert (result.text.decode(), result.finish) == (text, finish)
    assert TOKENIZER.decode(result.tokens).startswith(text)
    assert len(result.tokens) == len(result.logprobs)


def test_a_seed_makes_sampling_repeatable() -> None:
    found = []
    for seed in (1, 1, 2):
        engine = make_engine()
        sampling = Sampling(temperature=1.5, top_k=50, seed=seed)
        engine.submit(request("a", "abc", sampling=sampling))
        found.append(run_all(engine)["a"].tokens)
    assert found[0] == found[1] != found[2]

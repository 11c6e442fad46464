"""The search against all lines there are, and in the engine among others."""

import math
from collections import defaultdict
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.engines import make_engine, request, run_all
from support.models import LLAMA
from support.runners import HashRunner
from support.tokenizer import TOKENIZER
from tabwise_model.choosing import choose
from tabwise_model.engine import Engine
from tabwise_model.healing import TokenIndex
from tabwise_model.request import Finish, Generation, GenerationRequest, Search, Stop
from tabwise_model.runners.protocol import Chunk, Logits
from tabwise_model.sampling import probabilities
from tabwise_model.search import LineSearch
from tabwise_model.tokenizer import Tokenizer

LETTERS = (*b"ab\n", TOKENIZER.encode("\r\n")[0], TOKENIZER.end)
INDEX = TokenIndex(TOKENIZER.token_bytes())
DEPTH = 4


def logits_after(seed: int, written: tuple[int, ...]) -> Logits:
    """Any probabilities for a few tokens, next to none for all others."""
    row = np.full(TOKENIZER.vocab_size, -60.0, np.float32)
    rng = np.random.default_rng([seed, *written])
    row[list(LETTERS)] = rng.normal(0, 2, len(LETTERS))
    return row


def search_lines(seed: int, **options: Any) -> LineSearch:
    search = Search(**options)
    asked = GenerationRequest(
        id="a", prompt=(1,), max_new_tokens=DEPTH, stop=Stop.LINE, search=search
    )
    found = LineSearch(asked, search, INDEX)
    rows = [logits_after(seed, ())]
    while found.advance(choose(found.ask(rows), found.width)):
        rows = [logits_after(seed, x.written) for x in found.alive]
    return found


def all_lines(seed: int) -> dict[bytes, float]:
    """Every line of at most DEPTH tokens and its probability."""
    shares: dict[bytes, float] = defaultdict(float)
    unfinished: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    while unfinished:
        written, share = unfinished.pop()
        text = b"".join(INDEX.bytes_of[i] for i in written)
        p = probabilities(logits_after(seed, written))
        for token in LETTERS:
            piece = INDEX.bytes_of[token]
            one = share * float(p[token])
            if token == TOKENIZER.end or (text.strip() and piece.strip() == b""):
                shares[text.rstrip(b" \t\r")] += one
            elif len((text + piece).strip()) and len(written) + 1 == DEPTH:
                shares[text + piece] += one
            elif len(written) + 1 == DEPTH:
                shares[(text + piece).rstrip(b" \t\r")] += one
            else:
                unfinished.append(((*written, token), one))
    return shares


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_a_wide_search_finds_the_likeliest_of_all_lines(seed: int) -> None:
    everything = all_lines(seed)
    assert math.isclose(sum(everything.values()), 1, abs_tol=1e-4)
    best = search_lines(seed, width=256).lines()[0]
    # unfinished lines that would end as one text are not added up before they end
    assert everything[best.text] >= 0.5 * max(everything.values())
    assert everything[best.text] >= best.probability - 1e-4


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.2, 0.4]))
def test_asking_for_less_work_changes_no_answer(seed: int, least: float) -> None:
    everything = search_lines(seed, width=64).lines()[0]
    wanted = search_lines(seed, width=64, min_probability=least).lines()
    if everything.probability > least:
        assert wanted[0].text == everything.text
    assert all(line.probability >= least for line in wanted)


def test_few_lines_are_alive_under_a_floor() -> None:
    for seed in range(50):
        asked = GenerationRequest(id="a", prompt=(1,), stop=Stop.LINE)
        search = LineSearch(asked, Search(width=99, min_probability=0.25), INDEX)
        rows = [logits_after(seed, ())]
        while search.advance(choose(search.ask(rows), search.width)):
            assert len(search.alive) <= 3
            rows = [logits_after(seed, x.written) for x in search.alive]


def test_ends_by_several_tokens_are_one_end() -> None:
    """Each end is less likely than going on, all of them together are more."""
    row = np.full(TOKENIZER.vocab_size, -60.0, np.float32)
    for token, share in zip(LETTERS, (0.4, 0.0, 0.2, 0.2, 0.2), strict=True):
        row[token] = math.log(share) if share else -60
    search = Search(width=4)
    asked = GenerationRequest(
        id="a", prompt=(1,), max_new_tokens=9, stop=Stop.LINE, search=search
    )
    found = LineSearch(asked, search, INDEX)
    rows = [np.where(np.arange(len(row)) == ord("a"), 0, -60).astype(np.float32)]
    while found.advance(choose(found.ask(rows), found.width)):
        rows = [row] * len(found.alive)
    best = found.lines()[0]
    assert (best.text, best.finish) == (b"a", Finish.LINE)
    assert math.isclose(best.probability, 0.6, rel_tol=1e-3)


def test_what_stands_before_the_cursor_is_written_again_and_left_out() -> None:
    search = Search(width=4)
    asked = GenerationRequest(
        id="a", prompt=(1,), heal=b"ab", max_new_tokens=5, stop=Stop.LINE, search=search
    )
    found = LineSearch(asked, search, INDEX)
    rows = [logits_after(3, ())]
    while found.advance(choose(found.ask(rows), found.width)):
        assert all(INDEX.bytes_of[x.written[0]][:1] == b"a" for x in found.alive)
        rows = [logits_after(3, x.written) for x in found.alive]
    for line in found.lines():
        assert line.text == b"".join(INDEX.bytes_of[i] for i in line.tokens).rstrip()


class Letters(HashRunner):
    """Few tokens are likely, as a model's are."""

    def _append(self, chunk: Chunk) -> Logits:
        super()._append(chunk)
        return logits_after(0, tuple(self.held[chunk.slot]))


def searched(name: str, prompt: list[int], **options: Any) -> GenerationRequest:
    search = Search(width=options.pop("width", 3), **options)
    return request(name, prompt, stop=Stop.LINE, search=search)


def facts(result: Generation) -> tuple[object, ...]:
    return result.text, result.finish, result.probability, result.tokens


PROMPTS = st.lists(st.sampled_from(list(b"ab")), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(PROMPTS, st.integers(0, 4), st.integers(1, 3)),
        min_size=1,
        max_size=10,
    ),
    st.integers(1, 20),
    st.integers(3, 7),
)
def test_searches_find_the_same_cached_or_not_batched_or_alone(
    asked: list[tuple[list[int], int, int]], chunk: int, slots: int
) -> None:
    engine = make_engine(Letters(n_slots=slots), prefill_chunk=chunk)
    results: dict[str, Generation] = {}
    wanted = [
        searched(str(i), prompt, width=width) if width > 1 else request(str(i), prompt)
        for i, (prompt, _, width) in enumerate(asked)
    ]
    for one, (_, steps, _) in zip(wanted, asked, strict=True):
        engine.submit(one)
        for _ in range(steps):
            results.update({result.id: result for result in engine.step()})
    results.update(run_all(engine))
    for one in wanted:
        alone = make_engine(Letters())
        alone.submit(one)
        assert facts(results[one.id]) == facts(run_all(alone)[one.id])


def test_a_search_gives_its_slots_back_and_keeps_the_prompt() -> None:
    runner = Letters(n_slots=3)
    engine = make_engine(runner)
    for name in ("a", "b"):
        engine.submit(searched(name, [*b"abababab"]))
        result = run_all(engine)[name]
    assert result.cached_tokens == 7
    engine.submit(searched("gone", [*b"bababa"]))
    for _ in range(3):
        engine.step()
    engine.cancel("gone")
    engine.submit(searched("next", [*b"abab"]))
    assert run_all(engine)["next"].finish in (Finish.LINE, Finish.LENGTH, Finish.END)


def test_a_search_that_finds_nothing_likely_says_so() -> None:
    engine = make_engine(HashRunner())
    engine.submit(searched("a", [1, 2, 3], min_probability=0.9))
    result = run_all(engine)["a"]
    assert (result.finish, result.text) == (Finish.UNSURE, b"")
    assert engine.counters.decode_tokens == 0


def test_a_failed_copy_fails_its_own_search() -> None:
    class Broken(Letters):
        def copy_slot(self, *where: int) -> None:
            raise RuntimeError("no copy")

    engine = make_engine(Broken(n_slots=4))
    engine.submit(searched("a", [*b"ab"]))
    engine.submit(request("b", [*b"ba"]))
    results = run_all(engine)
    assert results["a"].error == "RuntimeError: no copy"
    assert results["b"].finish is not Finish.FAILED


BLOCKS = {
    (): b"a",
    (*b"a",): b"\n",
    (*b"a\n",): b"  ",
    (*b"a\n", TOKENIZER.encode("  ")[0]): b"b",
    (*b"a\n", TOKENIZER.encode("  ")[0], *b"b"): b"\n",
}


class Block(HashRunner):
    """Sure of "a\\n  b", then of `last`."""

    last = b"a"
    prompt = 3

    def _append(self, chunk: Chunk) -> Logits:
        super()._append(chunk)
        written = tuple(self.held[chunk.slot][self.prompt :])
        row = np.zeros(TOKENIZER.vocab_size, np.float32)
        row[TOKENIZER.encode(BLOCKS.get(written, self.last).decode())[0]] = 20
        return row


def block(**options: Any) -> GenerationRequest:
    search = Search(width=2, min_probability=0.5)
    options = {"block_indent": 2, "max_new_tokens": 20, **options}
    prompt = options.pop("prompt", [7, 8, 9])
    return request("a", prompt, stop=Stop.BLOCK, search=search, **options)


def said(runner: HashRunner, asked: GenerationRequest) -> Generation:
    engine = make_engine(runner)
    engine.submit(asked)
    return run_all(engine)["a"]


def test_a_block_is_searched_line_by_line_until_it_is_left() -> None:
    result = said(Block(n_slots=3), block())
    assert (result.text, result.finish) == (b"a\n  b", Finish.BLOCK)
    assert result.probability is not None
    assert result.probability > 0.9


def test_a_block_ends_before_a_line_that_is_not_likely() -> None:
    class Unsure(Block):
        def _append(self, chunk: Chunk) -> Logits:
            row = super()._append(chunk)
            seen = self.held[chunk.slot]
            return row / np.float32(9) if len(seen) == self.prompt + 3 else row

    result = said(Unsure(n_slots=3), block())
    assert (result.text, result.finish) == (b"a", Finish.BLOCK)


BREAKING = {bytes([byte]): byte for byte in range(256)}
BREAKING |= {piece: 256 + i for i, piece in enumerate((b":\n", b":\n\n", b":\r\n"))}


@pytest.mark.parametrize("breaking", [b":", b":\n", b":\n\n", b":\r\n"])
def test_the_next_line_is_searched_behind_one_line_break(breaking: bytes) -> None:
    """However many the token brought that ended the line before it."""
    tokenizer, seen = Tokenizer(BREAKING), []

    class Breaking(HashRunner):
        def _append(self, chunk: Chunk) -> Logits:
            super()._append(chunk)
            seen.append(tokenizer.decode_bytes(self.held[chunk.slot]))
            row = np.zeros(tokenizer.vocab_size, np.float32)
            ends = {b"x": breaking, b":": b"\n", b"y": b"\n"}
            row[BREAKING[ends.get(seen[-1][-1:], b"y")]] = 50
            return row

    config = attrs.evolve(LLAMA, vocab_size=tokenizer.vocab_size)
    engine = Engine(Breaking(n_slots=4, config=config), tokenizer)
    asked = block(prompt=tuple(b"if x"), block_indent=0, max_new_tokens=5)
    engine.submit(asked)
    assert run_all(engine)["a"].text.startswith(b":\ny")
    assert b"if x:\ny" in seen
    assert not [context for context in seen if context.startswith(b"if x:\n\n")]


@pytest.mark.parametrize("room", [3, 4, 6])
def test_a_block_keeps_within_its_tokens(room: int) -> None:
    result = said(Block(n_slots=3), block(max_new_tokens=room))
    assert result.text == (b"a" if room == 3 else b"a\n  b")
    assert len(result.tokens) <= room


def test_a_block_keeps_within_its_slot() -> None:
    result = said(Block(n_slots=3, slot_tokens=6), block())
    assert result.text == b"a"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"search": Search(width=5)}, "width must be 1..4"),
        ({"stop": Stop.NONE}, "stop 'line' or 'block'"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    change: dict[str, Any], reason: str
) -> None:
    engine = make_engine(Letters(n_slots=4))
    with pytest.raises(ValueError, match=reason):
        engine.submit(attrs.evolve(searched("a", [1]), **change))

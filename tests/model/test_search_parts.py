"""The beginning of a line, where no whole line is likely enough."""

import math
from typing import Any

import numpy as np
import pytest

from support.engines import make_engine, request, run_all
from support.runners import HashRunner
from support.tokenizer import TOKENIZER
from tabwise_model.choosing import choose
from tabwise_model.healing import TokenIndex
from tabwise_model.request import Finish, GenerationRequest, Search, Stop
from tabwise_model.runners.protocol import Chunk, Logits
from tabwise_model.search import LineSearch

INDEX = TokenIndex(TOKENIZER.token_bytes())
# What follows what, and how likely it is: a call whose arguments nobody knows.
ANY = {bytes([letter]): 1 / 26 for letter in range(ord("a"), ord("z") + 1)}
CALL = {
    b"": {b"a": 0.9, b"b": 0.1},
    b"a": {b"b": 0.95, b" ": 0.05},
    b"ab": {b"(": 0.6, b"=": 0.4},
}


def search_call(heal: bytes = b"", **options: Any) -> LineSearch:
    search = Search(width=4, min_probability=0.25, **options)
    asked = GenerationRequest(
        id="a", prompt=(1,), max_new_tokens=9, stop=Stop.LINE, search=search, heal=heal
    )
    found, written = LineSearch(asked, search, INDEX), [b""]
    while found.advance(choose(found.ask([call_row(w) for w in written]), found.width)):
        written = [b"".join(INDEX.bytes_of[i] for i in x.written) for x in found.alive]
    return found


def call_row(written: bytes) -> Logits:
    row = np.full(TOKENIZER.vocab_size, -60.0, np.float32)
    for piece, share in CALL.get(written, ANY).items():
        row[INDEX.exact[piece]] = math.log(share)
    return row


@pytest.mark.parametrize(
    ("least", "text", "probability"),
    [
        (0.5, b"ab(", 0.9 * 0.95 * 0.6),
        (0.6, b"ab", 0.9 * 0.95),
        (0.8, b"ab", 0.9 * 0.95),
        (0.9, None, None),
        (None, None, None),
    ],
)
def test_the_beginning_of_a_line_ends_where_a_word_does(
    least: float | None, text: bytes | None, probability: float | None
) -> None:
    search = search_call(min_part_probability=least)
    assert search.lines() == []
    part = search.part()
    assert (part and part.text) == text
    if part is not None:
        assert part.finish is Finish.PART
        assert math.isclose(part.probability, probability or 0, rel_tol=1e-3)
        assert len(part.tokens) == len(part.logprobs) == len(part.text)


@pytest.mark.parametrize(
    ("follows", "text"),
    [
        (dict.fromkeys((b"(", b"=", b".", b",", b" "), 0.2), b"ab"),
        ({b"\n": 0.2, b"(": 0.2, b"=": 0.2, b".": 0.2, b",": 0.2}, b"ab"),
        (ANY, None),  # the word goes on
        ({b"(": 0.2, b"=": 0.2, b"c": 0.2, b"d": 0.2, b"e": 0.2}, None),
    ],
)
def test_a_word_ends_where_most_of_what_may_follow_is_no_letter(
    follows: dict[bytes, float], text: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CALL, b"ab", follows)
    part = search_call(min_part_probability=0.8).part()
    assert (part and part.text) == text


def test_a_beginning_leaves_out_what_is_written_again() -> None:
    part = search_call(b"a", min_part_probability=0.6).part()
    assert part is not None
    assert (part.text, len(part.tokens)) == (b"b", 1)
    assert math.isclose(part.probability, 0.95, rel_tol=1e-3)


class Call(HashRunner):
    """CALL behind a prompt of three tokens."""

    def _append(self, chunk: Chunk) -> Logits:
        super()._append(chunk)
        written = self.held[chunk.slot][3:]
        return call_row(b"".join(INDEX.bytes_of[i] for i in written))


@pytest.mark.parametrize(
    ("least", "finish", "text"), [(0.6, "part", b"ab"), (None, "unsure", b"")]
)
@pytest.mark.parametrize("stop", [Stop.LINE, Stop.BLOCK])
def test_a_request_gets_a_beginning_where_no_line_is_likely(
    least: float | None, finish: str, text: bytes, stop: Stop
) -> None:
    search = Search(width=2, min_probability=0.25, min_part_probability=least)
    asked = request("a", [1, 2, 3], stop=stop, search=search, max_new_tokens=9)
    engine = make_engine(Call(n_slots=3))
    engine.submit(asked)
    result = run_all(engine)["a"]
    assert (result.finish, result.text) == (Finish(finish), text)
    assert len(result.tokens) == len(text)
    assert result.probability == pytest.approx(0.855 if text else 0, rel=1e-3)

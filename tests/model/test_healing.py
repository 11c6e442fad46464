import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.runners import HashRunner
from support.tokenizer import TOKENIZER as T
from tabwise_model.engine import Engine
from tabwise_model.healing import TokenIndex
from tabwise_model.request import Generation, GenerationRequest, Stop

PIECES = st.binary(min_size=1, max_size=3)


@given(st.lists(PIECES, min_size=1, unique=True), PIECES)
def test_allowed_tokens_are_those_that_agree(
    pieces: list[bytes], required: bytes
) -> None:
    wanted = {
        i
        for i, piece in enumerate(pieces)
        if piece.startswith(required) or required.startswith(piece)
    }
    assert set(TokenIndex(pieces).allowed(required).tolist()) == wanted


def test_a_sentinel_is_never_allowed() -> None:
    index = TokenIndex(T.token_bytes())
    for required in (b"<", b"<|endoftext|>", b"\xff", b"\xff\xff"):
        assert T.sentinels.isdisjoint(index.allowed(required).tolist())


def generate(heal: bytes, **options: object) -> Generation:
    engine = Engine(HashRunner(slot_tokens=200), T)
    engine.submit(
        GenerationRequest(
            id="a",
            prompt=tuple(T.encode("x = ")),
            heal=heal,
            max_new_tokens=20,
            **options,  # type: ignore[arg-type]
        )
    )
    while True:
        for result in engine.step():
            assert engine.runner.held[0][4 : 4 + 1]  # type: ignore[attr-defined]
            written = T.decode_bytes(engine.runner.held[0][4:])  # type: ignore[attr-defined]
            assert written.startswith(heal[: len(written)])
            return result


@pytest.mark.parametrize("heal", [b"d", b"    ", b"return", "é😀".encode(), b"\xff"])
def test_a_generation_begins_with_what_stands_before_the_cursor(heal: bytes) -> None:
    result = generate(heal)
    assert len(result.tokens) == len(result.logprobs)
    assert T.decode_bytes(result.tokens).endswith(result.text)


def test_healed_line_breaks_do_not_stop_a_line() -> None:
    assert generate(b"\n\n", stop=Stop.LINE).text != b""

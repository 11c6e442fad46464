import pytest

from tabwise_model.healing import TokenIndex
from tabwise_model.request import Finish, GenerationRequest, Stop
from tabwise_model.sequence import Sequence
from tabwise_model.slots import Placement, Slot

PIECES = {1: b"re", 2: b"turn", 3: b"\n", 4: b" x\n  y", 5: b"\r\n"}


def said(tokens: list[int], stop: Stop = Stop.LINE) -> tuple[Sequence, Finish | None]:
    """A sequence after these tokens were chosen, the n-th at log-probability -n."""
    request = GenerationRequest(id="a", prompt=(9,), stop=stop, max_new_tokens=5)
    sequence, finish = Sequence(request, 0.0, TokenIndex([b"\n"])), None
    for place, token in enumerate(tokens, start=1):
        assert finish is None
        finish = sequence.append(token, -float(place), PIECES[token])
    return sequence, finish


@pytest.mark.parametrize(
    ("tokens", "text", "kept"),
    [
        ([1, 2, 3], b"return", [1, 2]),
        ([1, 2, 5], b"return", [1, 2]),
        ([1, 2, 4], b"return x", [1, 2, 4]),
        ([3, 1, 3], b"\nre", [3, 1]),
    ],
)
def test_tokens_are_kept_that_begin_before_the_cut(
    tokens: list[int], text: bytes, kept: list[int]
) -> None:
    sequence, finish = said(tokens)
    result = sequence.result(Finish.LINE, 1.0)
    assert finish is Finish.LINE
    assert (result.text, result.tokens) == (text, kept)
    assert result.logprobs == [-1.0, -2.0, -3.0][: len(kept)]


def test_it_ends_with_its_last_token() -> None:
    assert said([1, 1, 1, 1], Stop.NONE)[1] is None
    assert said([1, 1, 1, 1, 1], Stop.NONE)[1] is Finish.LENGTH


def test_times_add_up_whenever_it_ends() -> None:
    sequence, _ = said([1])
    queued = sequence.result(Finish.EXPIRED, 3.0)
    assert (queued.queue_s, queued.prefill_s, queued.decode_s) == (3.0, 0.0, 0.0)
    sequence.enter(Placement(Slot(0), 0, None), 1.0)
    prefilling = sequence.result(Finish.CANCELLED, 3.0)
    assert (prefilling.queue_s, prefilling.prefill_s) == (1.0, 2.0)
    sequence.begin_decoding(1.5)
    done = sequence.result(Finish.END, 3.0)
    assert (done.queue_s, done.prefill_s, done.decode_s) == (1.0, 0.5, 1.5)

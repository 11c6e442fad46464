import pytest

from support.tokenizer import TOKENIZER as T
from tabwise_model.prompt import anchored_tail, fim_prompt, plain_prompt

CODE = "".join(f"value_{i} = compute({i}, 'é')\n" for i in range(400))


@pytest.mark.parametrize("window", [16, 40, 200, 100_000])
def test_a_prompt_fits_its_window_and_keeps_what_is_near(window: int) -> None:
    ids = fim_prompt(T, CODE, CODE, [("a.py", CODE), ("b.py", "x")], window=window)
    assert len(ids) <= window
    prefix = T.decode(ids[ids.index(T.fim_middle) :])
    assert CODE.endswith(prefix)
    suffix = T.decode(ids[ids.index(T.fim_suffix) : ids.index(T.fim_middle)])
    assert CODE.startswith(suffix)


def test_at_least_half_of_the_window_is_used() -> None:
    assert len(fim_prompt(T, CODE, CODE, window=400)) > 250


def test_typing_on_only_appends_but_for_a_few_moves_of_the_edge() -> None:
    moves = 0
    before = anchored_tail(T, CODE, 400)
    for typed in range(1, 400):
        after = anchored_tail(T, CODE + "x" * typed, 400)
        moves += after[:100] != before[:100]
        before = after
    assert 1 <= moves <= 3


def test_a_context_chunk_that_does_not_fit_is_left_out() -> None:
    ids = fim_prompt(T, "a", "b", [("big.py", CODE), ("small.py", "y = 1")], window=200)
    text = T.decode(ids)
    assert "small.py" in text
    assert "big.py" not in text


def test_empty_code_is_continued_after_an_end() -> None:
    assert plain_prompt(T, "", window=10) == [T.end]
    assert T.decode(plain_prompt(T, "x = 1", window=10)) == "x = 1"


def test_a_window_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        fim_prompt(T, "", "", window=3)

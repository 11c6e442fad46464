import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tokenizer import TOKENIZER as T
from tabwise_model.prompt import Prompt, anchored_tail, fim_prompt, plain_prompt

CODE = "".join(f"value_{i} = compute({i}, 'é')\n" for i in range(400))


def prefix_of(prompt: Prompt) -> str:
    """The prefix that a prompt and its healing stand for."""
    ids = list(prompt.ids)
    return (T.decode_bytes(ids[ids.index(T.fim_middle) :]) + prompt.heal).decode()


@pytest.mark.parametrize("window", [32, 40, 200, 100_000])
def test_a_prompt_fits_its_window_and_keeps_what_is_near(window: int) -> None:
    prompt = fim_prompt(T, CODE, CODE, [("a.py", CODE), ("b.py", "x")], window=window)
    assert len(prompt.ids) <= window
    assert CODE.endswith(prefix_of(prompt))
    assert prompt.heal
    ids = list(prompt.ids)
    suffix = T.decode(ids[ids.index(T.fim_suffix) : ids.index(T.fim_middle)])
    assert CODE.startswith(suffix)


@given(st.text(), st.text(max_size=50))
def test_nothing_of_a_short_prefix_is_lost(prefix: str, suffix: str) -> None:
    prompt = fim_prompt(T, prefix, suffix, window=4_000)
    whole = prefix.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert prefix_of(prompt) == whole
    assert (prompt.heal == b"") == (prefix == "")


@pytest.mark.parametrize(
    ("prefix", "heal"),
    [
        ("x = self.na", ".na"),
        ("return ", " "),
        ("if x:\n        ", "        "),
        ("f(", "("),
        ("x\n", "\n"),
        ("", ""),
    ],
)
def test_the_last_piece_is_written_again(prefix: str, heal: str) -> None:
    assert fim_prompt(T, prefix, "\n", window=100).heal.decode() == heal


def test_of_a_long_piece_only_the_end_is_written_again() -> None:
    prompt = fim_prompt(T, "x" * 500, "", window=200)
    assert len(prompt.heal) == 8
    assert len(prompt.ids) <= 200


def test_at_least_half_of_the_window_is_used() -> None:
    assert len(fim_prompt(T, CODE, CODE, window=400).ids) > 250


def test_typing_on_only_appends_but_for_a_few_moves_of_the_edge() -> None:
    moves = 0
    before = anchored_tail(T, CODE, 400)
    for typed in range(1, 400):
        after = anchored_tail(T, CODE + "x" * typed, 400)
        moves += after[:100] != before[:100]
        before = after
    assert 1 <= moves <= 3


def test_a_context_chunk_that_does_not_fit_is_left_out() -> None:
    prompt = fim_prompt(
        T, "a", "b", [("big.py", CODE), ("small.py", "y = 1")], window=200
    )
    text = T.decode(prompt.ids)
    assert "small.py" in text
    assert "big.py" not in text


def test_plain_code_is_continued_from_its_end() -> None:
    assert plain_prompt(T, "", window=10) == Prompt((T.end,), b"")
    prompt = plain_prompt(T, "x = 1", window=10)
    assert T.decode_bytes(prompt.ids) + prompt.heal == b"x = 1"


def test_a_window_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        fim_prompt(T, "", "", window=3)

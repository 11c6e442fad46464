"""What the model is asked: anchored windows, and where it is to stop."""

import itertools

import pytest

from tabwise_server.suggest.place import Place
from tabwise_server.suggest.prompt import (
    PromptOptions,
    build_request,
    choose_stop,
    cut_prefix,
    cut_suffix,
)

LINE = "value = compute(value)\n"


def test_typing_only_appends_to_a_long_prefix_but_for_a_few_steps() -> None:
    budget, text = 1_000, LINE * 100
    typed = LINE * 40
    windows = [cut_prefix(text + typed[:n], budget) for n in range(len(typed))]
    moves = 0
    for before, after in itertools.pairwise(windows):
        assert len(after) <= budget
        moves += not after.startswith(before)
    assert moves <= len(typed) // (budget // 4) + 1
    assert all(len(window) > budget // 2 for window in windows)


def test_a_long_prefix_begins_at_a_line() -> None:
    assert cut_prefix(LINE * 100, 500).startswith(LINE)


def test_a_prefix_without_lines_is_still_cut() -> None:
    assert 250 < len(cut_prefix("x" * 10_000, 500)) <= 500


def test_a_suffix_is_cut_after_a_line() -> None:
    cut = cut_suffix(LINE * 100, 500)
    assert 250 < len(cut) <= 500
    assert cut.endswith("\n")


def test_line_endings_reach_the_model_as_line_feeds() -> None:
    place = Place(prefix="a\r\nb\rc", suffix="\r\nd", path="x.py")
    request = build_request(place, PromptOptions(max_new_tokens=7), session="s")
    assert (request.prefix, request.suffix) == ("a\nb\nc", "\nd")
    assert (request.session, request.path, request.max_new_tokens) == ("s", "x.py", 7)


@pytest.mark.parametrize(
    ("suffix", "wanted"),
    [("", 0.6), ("\nword\n", 0.6), (")]: ", 0.6), (", b)\n", None), (" + é", None)],
)
def test_a_lines_beginning_is_wanted_where_no_word_stands_to_the_right(
    suffix: str, wanted: float | None
) -> None:
    options = PromptOptions(min_part_confidence=0.6)
    request = build_request(Place(prefix="f(", suffix=suffix), options)
    assert request.min_part_confidence == wanted


@pytest.mark.parametrize(
    ("prefix", "suffix", "stop"),
    [
        ("def f():\n    ", "", "block"),
        ("def f():\n", "\n\nx = 1\n", "block"),
        ("if x:  # why\n    ", "\n", "block"),
        ("def f():\n    return ", "", "line"),
        ("def f():\n    ", "\n    return 1\n", "line"),  # the block is there already
        ("x = 1\n", "", "line"),
        ("x = [\n    ", "\n]", "line"),
        ('"""\nArgs:\n    ', '\n"""\n', "line"),  # prose, not a block
        ("", "", "line"),
    ],
)
def test_a_block_is_asked_for_only_where_one_begins(
    prefix: str, suffix: str, stop: str
) -> None:
    place = Place(prefix=prefix, suffix=suffix, language="python")
    assert choose_stop(place) == stop

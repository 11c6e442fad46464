"""Cursors of five kinds, and what each filter is charged with."""

import inspect
import json

import pytest

from tabwise_server.suggest.place import Place
from tabwise_training.evaluation.cursors import Cursor, draw_cursors
from tabwise_training.evaluation.filters import measure_filters
from tabwise_training.evaluation.generate import Completion

SOURCE = inspect.getsource(json.decoder)


def cursor(truth: str, suffix: str = "\n") -> Cursor:
    place = Place(prefix="x = ", suffix=suffix, language="python")
    return Cursor(kind="line", place=place, truth=truth)


def test_what_is_missing_at_a_cursor_makes_the_file_whole() -> None:
    found = draw_cursors([("a.py", SOURCE)], 100, seed=1)
    assert {c.kind for c in found} == {
        *("line", "block", "closed bracket", "inside", "complete line")
    }
    squeezed = "".join(SOURCE.split())
    for one in found:
        whole = one.place.prefix + one.truth + one.place.suffix
        assert "".join(whole.split()) == squeezed, one.kind
        assert (one.truth == "") is (one.kind == "complete line")


@pytest.mark.parametrize(
    ("truth", "suffix", "text", "right"),
    [
        ("a + b", "\n", "a + b ", True),
        ("a + b", "\n", "a", False),
        ("a\n    b", "\n", "a", True),  # the first whole line
        ("a", ")\n", "a", True),
        ("", "\n", "a", False),
        ("a", "\n", "", False),
    ],
)
def test_right_is_what_stood_there_or_its_first_lines(
    truth: str, suffix: str, text: str, right: bool
) -> None:
    assert cursor(truth, suffix).is_right(text) is right


def test_a_filter_is_charged_with_what_shows_without_it() -> None:
    cursors = [cursor("good"), cursor("a, b", ")\n"), cursor("good")]
    found = [Completion(text, 0.9) for text in ("1 2 3", "a, b)", "good")]
    figures = measure_filters(cursors, found, min_confidence=0.0)
    assert (figures.shown.hits, figures.right.hits) == (2, 2)
    effects = {effect.step: effect for effect in figures.effects}
    assert effects["syntax"].drops == 1
    assert effects["syntax"].shown_without.hits == 3
    assert effects["rest of the line"].fires == 1
    assert effects["rest of the line"].right_without.hits == 1
    assert effects["repeats itself"].shown_without == figures.shown

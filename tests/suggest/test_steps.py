"""Every step alone, by a table of cases, and what holds for all of them together."""

import doctest
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from tabwise_server.suggest import indentation, levels, prompt, repeats, trim
from tabwise_server.suggest.indentation import IndentStyle, style_at
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.prompt import worth_asking
from tabwise_server.suggest.repeats import drop_loop, edits_within
from tabwise_server.suggest.shape import ShapeOptions, shape, steps_for


@pytest.mark.parametrize("module", [indentation, levels, prompt, repeats, trim])
def test_the_worked_examples_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


BLOCK = "def f():\n    "
CASES = [
    # step, text, prefix, suffix, what is left
    ("confidence", "x", "", "", "x"),
    ("special tokens", "a<|x|>b", "", "", "a"),
    ("special tokens", "a < b > c", "", "", "a < b > c"),
    ("special tokens", "x[PREFIX]", "", "", "x"),
    ("special tokens", "<script>", "", "", "<script>"),
    ("one line inside a line", "a\nb", "f(", ")", "a"),
    ("one line inside a line", "a\r\nb", "f(", "", "a\nb"),
    ("stay on the line", "\nx", "y = 1", "", ""),
    ("stay on the line", "\n    x", "if y:", "", "\n    x"),
    ("stay on the line", "\nx", "", "", "\nx"),
    ("double space", " x", "y = ", "", "x"),
    ("double space", " x", "y =", "", " x"),
    ("block end", "a\nb", BLOCK, "", "a"),
    ("block end", "a\n    b", BLOCK, "", "a\n    b"),
    ("block end", "a\n\n    b\nc", BLOCK, "", "a\n\n    b"),
    (
        "block end",
        "g(\n        a,\n    )\n    b",
        BLOCK,
        "",
        "g(\n        a,\n    )\n    b",
    ),
    ("block end", "\n    a\nb", "if x:", "", "\n    a"),
    ("block end", "\n    a,\n)\nb", "f(", "", "\n    a,\n)"),
    ("block end", "if a:\n    b\nelse:\n    c", "", "", "if a:\n    b\nelse:\n    c"),
    ("block end", "a = 1\nb = 2\n\nc = 3", "", "", "a = 1\nb = 2"),
    ("block end", "{\n  a;\n}\nb", "void f() ", "", "{\n  a;\n}"),
    ("trailing blanks", "a  \n", "", "", "a"),
    ("trailing blanks", "a, ", "f(", "b)", "a, "),
    ("rest of the line", "a)", "f(", ")", "a"),
    ("rest of the line", "f(a)", "g(", ")", "f(a)"),
    ("rest of the line", "a', b", "f('", "')", "a', b"),
    ("into a word", "ab", "c", "d", ""),
    ("into a word", "ab, ", "f(", "d", "ab, "),
    ("into a word", "ab", "f(", "d", ""),
    ("closers alone", "):", "", "", ""),
    ("closers alone", "a)", "", "", "a)"),
    ("too short", "a", "", "", ""),
    ("too short", "ab", "", "", "ab"),
    ("turned down", "ab", "", "", "ab"),
    ("repeats what follows", "a\nbb", "", "\nbb\n", "a"),
    ("repeats what follows", "bc", "x = ", "\nx = bc\n", ""),
    ("repeats what follows", "a1 = f(1)", "", "\na2 = f(2)\n", "a1 = f(1)"),
    ("repeats what follows", "f(\n    a\n)", "", "\n)\n", "f(\n    a\n)"),
    ("repeats what follows", "a,\n]", "x = [\n", "\n]\n", "a,"),
    ("repeats further down", "a()\nb()", "", "\nc()\na()\nb()\n", ""),
    ("repeats further down", "a()\nd()", "", "\nc()\na()\nb()\n", "a()\nd()"),
    ("repeats further down", "a()", "", "\nc()\na()\n", "a()"),
    ("repeats what stands above", "a = 1", "a = 1\n", "", ""),
    ("repeats what stands above", "a\nb", "a\nb\n", "", ""),
    ("repeats what stands above", "c\nb", "a\nb\n", "", "c\nb"),
    ("repeats itself", "ab, ab, ab, ab, ab, ", "", "", ""),
    ("repeats itself", "0, 0, 0, 0, 0, 0", "", "", "0, 0, 0, 0, 0, 0"),
    ("repeats itself", "-- " * 9 + "a", "", "", "-- " * 9 + "a"),
    ("indentation", "a:\n    b", "if c:\n\td\nif ", "", "a:\n\tb"),
    ("indentation", "a(\n    b", "x = 1\n", "", "a(\n    b"),
    ("indentation", "a:\n    b", "if c:\n  d\nif ", "", "a:\n  b"),
    ("syntax", "1 2", "x = ", "\n", ""),
    ("syntax", "12", "x = ", "\n", "12"),
]


@pytest.mark.parametrize(("step", "text", "prefix", "suffix", "left"), CASES)
def test_each_step_does_its_own(
    step: str, text: str, prefix: str, suffix: str, left: str
) -> None:
    place = Place(prefix=prefix, suffix=suffix, language="python")
    assert steps_for(1.0, ShapeOptions())[step](text, place) == left


def test_every_step_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(steps_for(1.0, ShapeOptions()))


@pytest.mark.parametrize(
    ("prefix", "editor", "style"),
    [
        ("", None, None),
        ("x = 1\n", IndentStyle(True, 8), IndentStyle(True, 8)),
        ("if x:\n\ty\n", IndentStyle(False, 2), IndentStyle(True, 2)),
        ("if x:\n    y\n", IndentStyle(True, 8), IndentStyle(False, 4)),
        ("f(a,\n  b)\n", None, IndentStyle(False, 4)),
    ],
)
def test_a_documents_own_indentation_comes_before_the_editors(
    prefix: str, editor: IndentStyle | None, style: IndentStyle | None
) -> None:
    assert style_at(Place(prefix=prefix), editor) == style


@pytest.mark.parametrize(
    ("prefix", "suffix", "worth"),
    [("pri", "nt()", False), ("pri", "(x)", True), ("f(", "x)", True), ("", "", True)],
)
def test_the_middle_of_a_word_is_not_asked_about(
    prefix: str, suffix: str, worth: bool
) -> None:
    assert worth_asking(Place(prefix=prefix, suffix=suffix)) is worth


@given(st.text("abc", max_size=8), st.text("abc", max_size=8), st.integers(0, 5))
def test_bounded_edits_are_levenshteins(a: str, b: str, most: int) -> None:
    assert edits_within(a, b, most) is (Levenshtein.distance(a, b) <= most)


@given(st.text("-1a ", max_size=9), st.integers(2, 5), st.integers(0, 8))
def test_a_loop_is_a_piece_with_a_letter_four_times(
    piece: str, times: int, cut: int
) -> None:
    text = f"- {piece * times}"[cut:]
    found = re.search(r"(.{2,60}?[^\W\d].{0,60}?)\1{3,}", text)
    assert drop_loop(text, Place(prefix="")) == ("" if found else text)


PIECES = st.sampled_from(
    (
        "x",
        "f(",
        ")",
        ":",
        "\n",
        "    ",
        "\t",
        " ",
        "if a",
        "'",
        "b = 2",
        ", ",
        "\n}",
        "é😀",
        "#",
        "return",
        "\r\n",
        "[",
        "]",
        "<|endoftext|>",
        "<fim_middle>",
    )
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)
CALM = st.text("ab .,=", max_size=8)
LANGUAGES = st.sampled_from(["python", "go"])


def placed(prefix: str, suffix: str, language: str) -> Place:
    return Place(prefix=prefix, suffix=suffix, language=language)


@given(TEXTS, TEXTS, TEXTS, LANGUAGES)
@settings(max_examples=200)
def test_nothing_shown_leaks_repeats_or_grows_into_a_word(
    raw: str, prefix: str, suffix: str, language: str
) -> None:
    place = placed(prefix, suffix, language)
    text = shape(raw, place)
    if text is None:
        return
    assert text
    assert not any(bad in text for bad in ("<|endoftext|>", "<fim_middle>", "\r"))
    if place.line_after.strip():
        assert "\n" not in text
        assert not (text[-1:].isalnum() and place.line_after[:1].isalnum())
    below = place.next_line.strip()
    if below.isidentifier():
        assert (place.line_before + text).partition("\n")[0].strip() != below


@given(TEXTS, TEXTS, TEXTS, LANGUAGES)
@settings(max_examples=200)
def test_shaping_what_was_shaped_at_a_lines_end_changes_nothing(
    raw: str, prefix: str, suffix: str, language: str
) -> None:
    place = placed(prefix, "\n" + suffix, language)
    text = shape(raw, place)
    assert text is None or shape(text, place) == text


@given(CALM, CALM, st.sampled_from([")", "]", ");", ") + 1"]), LANGUAGES)
@settings(max_examples=100)
def test_the_rest_of_the_line_is_never_said_twice(
    raw: str, before: str, after: str, language: str
) -> None:
    text = shape(raw + after, placed(f"f({before}", f"{after}\n", language))
    assert text is None or after not in text

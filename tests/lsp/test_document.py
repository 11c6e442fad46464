"""Edits of an open document, against plain string surgery."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabwise_server.lsp.document import Document
from tabwise_server.suggest.positions import Encoding, column_of, split_lines

TEXT = st.text(alphabet="aé😀\n\r\t", max_size=12)
SPOT = st.tuples(st.integers(0, 6), st.integers(0, 8))
ENCODINGS = st.sampled_from(["utf-8", "utf-16", "utf-32"])


def offset_of(text: str, spot: tuple[int, int], encoding: Encoding) -> int:
    lines = split_lines(text)
    if spot[0] >= len(lines):
        return len(text)
    column = column_of(lines[spot[0]], spot[1], encoding)
    return sum(map(len, lines[: spot[0]])) + column


@given(TEXT, st.lists(st.tuples(SPOT, SPOT, TEXT), max_size=6), ENCODINGS)
def test_any_edits_leave_the_same_text_and_lines_as_string_surgery(
    text: str,
    edits: list[tuple[tuple[int, int], tuple[int, int], str]],
    encoding: Encoding,
) -> None:
    document = Document(text, encoding)
    for a, b, new in edits:
        start, end = min(a, b), max(a, b)
        first, last = (offset_of(text, spot, encoding) for spot in (start, end))
        text = text[:first] + new + text[max(first, last) :]
        document.replace(start, end, new)
        assert document.text == text
        assert document._lines == split_lines(text)


@given(TEXT, SPOT, ENCODINGS)
def test_a_place_is_the_whole_text_cut_at_the_cursor(
    text: str, spot: tuple[int, int], encoding: Encoding
) -> None:
    document = Document(text, encoding)
    if spot[0] < len(split_lines(text)):
        place = document.place_at(*spot)
        assert place.prefix + place.suffix == text
        assert len(place.prefix) == offset_of(text, spot, encoding)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_document_keeps_its_line_ending(ending: str) -> None:
    assert Document(f"a{ending}b", "utf-16").line_ending == ending
    assert Document("a", "utf-16").line_ending == "\n"


def test_a_keystroke_in_twenty_thousand_lines_costs_under_five_milliseconds() -> None:
    line = "    total += compute(première, '😀')  # a comment\n"
    document = Document(line * 20_000, "utf-16")
    times = []
    for column in range(40):
        began = time.perf_counter()
        document.replace((15_000, 4 + column), (15_000, 4 + column), "x")
        document.place_at(15_000, 5 + column)
        times.append(time.perf_counter() - began)
    assert sorted(times)[20] < 0.005

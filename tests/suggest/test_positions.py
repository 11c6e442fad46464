"""LSP positions in all three encodings, against a reading character by character."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabwise_server.suggest import positions
from tabwise_server.suggest.positions import (
    Encoding,
    PositionOutside,
    character_of,
    column_of,
    locate,
    split_lines,
)

ENCODINGS: tuple[Encoding, ...] = ("utf-8", "utf-16", "utf-32")
LINES = st.text(alphabet="ab é\t😀\u2028\x0c\ud800", max_size=12)


def width(char: str, encoding: Encoding) -> int:
    if encoding == "utf-8":
        return len(char.encode("utf-8", "surrogatepass"))
    return 2 if encoding == "utf-16" and ord(char) > 0xFFFF else 1


def test_the_worked_examples_hold() -> None:
    assert doctest.testmod(positions).failed == 0


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a\n", ["a\n", ""]),
        ("a\r\nb\rc\n\nd", ["a\r\n", "b\r", "c\n", "\n", "d"]),
        ("a\x0cb\u2028c\x85d\x1ce\n", ["a\x0cb\u2028c\x85d\x1ce\n", ""]),
        ("\r", ["\r", ""]),
    ],
)
def test_lines_end_where_editors_end_them(text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines


@given(LINES, st.sampled_from(ENCODINGS))
def test_columns_and_characters_are_each_others_inverse(
    line: str, encoding: Encoding
) -> None:
    units = 0
    for column, char in enumerate(line):
        assert character_of(line, column, encoding) == units
        for inside in range(width(char, encoding)):
            assert column_of(line, units + inside, encoding) == column
        units += width(char, encoding)
    assert column_of(line, units, encoding) == len(line)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ending", ["", "\n", "\r", "\r\n"])
def test_a_column_past_the_end_is_the_end_before_the_line_ending(
    encoding: Encoding, ending: str
) -> None:
    for content in ("abc", "é😀"):
        assert column_of(content + ending, 99, encoding) == len(content)


@pytest.mark.parametrize(("line", "character"), [(2, 0), (-1, 0), (0, -1), (9, 9)])
def test_a_position_outside_the_document_is_refused_by_name(
    line: int, character: int
) -> None:
    with pytest.raises(PositionOutside, match="must be"):
        locate(["a\n", "b"], line, character, "utf-16")

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabwise_model.request import Stop
from tabwise_model.stop import StopScanner, find_first, held_back


def cut(stop: Stop, pieces: list[bytes], indent: int = 4) -> tuple[bytes, int]:
    """(the text as cut, how many pieces were needed)."""
    scanner = StopScanner(stop, indent)
    for count, piece in enumerate(pieces, start=1):
        at = scanner.feed(piece)
        if at is not None:
            return bytes(scanner.text[:at]), count
    return bytes(scanner.text), len(pieces)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"x\ny", b"x"),
        (b"x\r\ny", b"x"),
        (b"x \t\ny", b"x \t"),
        (b"\n\n  x\ny", b"\n\n  x"),
        (b"\r\n  x\r\n", b"\r\n  x"),
        (b"  \n", b"  \n"),
        (b"x\ry\nz", b"x\ry"),
        ("é\n".encode(), "é".encode()),
    ],
)
def test_a_line_ends_before_the_break_after_something_visible(
    text: bytes, kept: bytes
) -> None:
    assert cut(Stop.LINE, [text])[0] == kept


@pytest.mark.parametrize(
    ("text", "indent", "kept"),
    [
        (b"x\n    y\nz", 4, b"x\n    y"),
        (b"x\n    y\n   z", 4, b"x\n    y"),
        (b"x\n    y\n\n\n  \nz", 4, b"x\n    y"),
        (b"x\n\n\n    y\n", 4, b"x\n\n\n    y\n"),
        (b"x\n\ty\n    z", 8, b"x\n\ty"),
        (b"x\n  \ty\nz", 8, b"x\n  \ty"),
        (b"x\r\n    y\r\n\r\nz", 4, b"x\r\n    y"),
        (b"x\ny\nz", 0, b"x\ny\nz"),
        (b"x\n    y\n   ", 4, b"x\n    y\n   "),
        (b"\nz", 4, b""),
    ],
)
def test_a_block_ends_before_a_line_indented_less(
    text: bytes, indent: int, kept: bytes
) -> None:
    assert cut(Stop.BLOCK, [text], indent)[0] == kept


def test_a_block_ends_as_soon_as_the_first_visible_byte_shows() -> None:
    pieces = [b"x", b"\n  ", b"\n", b"  ", b"z", b"never needed"]
    assert cut(Stop.BLOCK, pieces) == (b"x", 5)


def test_a_line_ends_with_the_token_that_holds_its_break() -> None:
    assert cut(Stop.LINE, [b"re", b"turn:\n\n  ", b"never needed"]) == (b"return:", 2)


TEXT = st.lists(
    st.sampled_from([b"x", b" ", b"    ", b"\t", b"\n", b"\r\n", b"def"]), max_size=30
)


@given(TEXT, st.sampled_from(list(Stop)), st.sampled_from([0, 1, 4, 8]))
def test_the_cut_does_not_depend_on_how_the_text_is_split(
    pieces: list[bytes], stop: Stop, indent: int
) -> None:
    text = b"".join(pieces)
    singles = [bytes([byte]) for byte in text]
    whole, _ = cut(stop, [text], indent)
    assert cut(stop, pieces, indent)[0] == whole
    assert cut(stop, singles, indent)[0] == whole


@given(
    st.lists(st.binary(max_size=4), max_size=12),
    st.lists(st.binary(min_size=1, max_size=4), max_size=3),
)
def test_text_that_was_told_is_never_taken_back(
    pieces: list[bytes], stops: list[bytes]
) -> None:
    """What `held_back` lets through stays, whatever comes; stops are found where they
    begin first."""
    text, told = bytearray(), b""
    for piece in pieces:
        before = len(text)
        text += piece
        at = find_first(text, stops, before)
        places = [bytes(text).find(stop) for stop in stops]
        assert at == min((p for p in places if p >= 0), default=None)
        if at is not None:
            assert bytes(text[:at]).startswith(told)
            return
        safe = bytes(text[: len(text) - held_back(text, stops)])
        assert safe.startswith(told)
        told = safe

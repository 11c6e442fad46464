"""The byte stream, however it is cut and whatever is in it."""

from hypothesis import given
from hypothesis import strategies as st

from tabwise_server.lsp.framing import MAX_BODY_BYTES, Framer, frame


def read(*pieces: bytes) -> list[bytes]:
    framer = Framer()
    return [body for piece in pieces for body in framer.feed(piece)]


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 9))
def test_any_cut_of_the_stream_gives_the_same_messages(
    bodies: list[bytes], size: int
) -> None:
    stream = b"".join(map(frame, bodies))
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert read(*pieces) == bodies


def test_header_names_are_read_in_any_case_and_order() -> None:
    header = b"Content-Type: x; charset=utf-8\r\ncontent-LENGTH:  2\r\n\r\n"
    assert read(header + b"{}") == [b"{}"]


def test_a_header_block_without_a_length_is_skipped() -> None:
    broken = b"Content-Length: -3\r\n\r\nContent-Length: x\r\n\r\nnonsense\r\n\r\n"
    broken += b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n"
    assert read(broken + frame(b"{}")) == [b"{}"]


def test_a_message_beyond_the_limit_is_skipped_not_kept() -> None:
    framer = Framer()
    header = b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 10)
    assert list(framer.feed(header)) == []
    chunk = b"x" * 1_000_000
    for _ in range(64):
        assert list(framer.feed(chunk)) == []
    assert list(framer.feed(b"x" * 10 + frame(b"{}"))) == [b"{}"]


def test_endless_headers_do_not_grow_without_end() -> None:
    framer = Framer()
    for _ in range(100):
        assert list(framer.feed(b"x" * 1000)) == []
    assert len(framer._buffer) < 20_000

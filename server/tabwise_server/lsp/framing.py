"""Messages in a byte stream: headers, an empty line, a body of Content-Length bytes."""

from __future__ import annotations

from collections.abc import Iterator

MAX_BODY_BYTES = 64_000_000
MAX_HEADER_BYTES = 16_384
MAX_DIGITS = 18


class Framer:
    """Bytes in, bodies out. No input stops it: a broken header block is skipped."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body_bytes: int | None = None
        self._skip_bytes = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that `data` completes; the iterator must be exhausted."""
        self._buffer += data
        while self._advance():
            if self._body_bytes is not None and len(self._buffer) >= self._body_bytes:
                body = bytes(self._buffer[: self._body_bytes])
                del self._buffer[: self._body_bytes]
                self._body_bytes = None
                yield body

    def _advance(self) -> bool:
        """Make what progress is possible; True while the caller should go on."""
        if self._skip_bytes:
            dropped = min(self._skip_bytes, len(self._buffer))
            del self._buffer[:dropped]
            self._skip_bytes -= dropped
            return bool(self._buffer)
        if self._body_bytes is not None:
            return len(self._buffer) >= self._body_bytes
        return self._read_headers()

    def _read_headers(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                self._buffer.clear()
            return False
        length = content_length(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        if length is not None and length > MAX_BODY_BYTES:
            self._skip_bytes = length
        else:
            self._body_bytes = length
        return True


def content_length(headers: bytes) -> int | None:
    """The Content-Length among header lines, any case, None if there is none."""
    for line in headers.splitlines():
        name, _, value = line.partition(b":")
        digits = value.strip()
        known = digits.isdigit() and len(digits) <= MAX_DIGITS
        if known and name.strip().lower() == b"content-length":
            return int(digits)
    return None


def frame(body: bytes) -> bytes:
    """`body` with its header."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)

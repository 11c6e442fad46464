"""Where a completion ends, found as its bytes arrive."""

from __future__ import annotations

from collections.abc import Iterable

from tabwise_model.request import Stop

TAB_COLUMNS = 8
_NEWLINE = ord("\n")


class StopScanner:
    """Collects a completion's bytes and finds the place to cut it.

    LINE: before the first line break after a visible byte; "\\r\\n" is one break.
    BLOCK: before the first line that is not blank and is indented less than
    `block_indent` columns, blank lines before it included. A tab reaches the next
    multiple of 8.
    """

    def __init__(self, stop: Stop, block_indent: int) -> None:
        self.text = bytearray()
        self._stop = stop
        self._indent = block_indent
        self._scanned = 0  # bytes that need not be looked at again

    def feed(self, data: bytes) -> int | None:
        """Add bytes; returns where to cut the text, None to go on."""
        self.text += data
        if self._stop is Stop.LINE:
            return self._end_of_line()
        if self._stop is Stop.BLOCK:
            return self._end_of_block()
        return None

    def _end_of_line(self) -> int | None:
        cut = end_of_line(self.text, self._scanned)
        if cut is None:  # what is blank up to here stays so
            self._scanned = self.text.rfind(b"\n") + 1
        return cut

    def _end_of_block(self) -> int | None:
        while True:
            at = self.text.find(b"\n", self._scanned)
            if at < 0:
                return None
            end = self.text.find(b"\n", at + 1)
            line = self.text[at + 1 : end if end >= 0 else None]
            if line.strip():
                if columns(line) < self._indent:
                    kept = len(self.text[:at].rstrip(b" \t\r\n"))
                    return kept
            elif end < 0:
                return None  # blank so far; what follows decides
            self._scanned = at + 1


def find_first(text: bytearray, wanted: Iterable[bytes], fresh: int = 0) -> int | None:
    """Where the first of `wanted` begins in `text`, None if none of them stands there.
    None of them ended in the first `fresh` bytes."""
    places = (text.find(one, max(0, fresh - len(one) + 1)) for one in wanted)
    return min((at for at in places if at >= 0), default=None)


def held_back(text: bytearray, wanted: Iterable[bytes]) -> int:
    """Bytes at the end of `text` with which one of `wanted` may begin."""
    return max(
        (n for one in wanted for n in range(1, len(one)) if text.endswith(one[:n])),
        default=0,
    )


def end_of_line(text: bytes | bytearray, scanned: int = 0) -> int | None:
    """Where the first line with something visible ends, None if it does not yet. No
    such line ends in the first `scanned` bytes."""
    while (at := text.find(b"\n", scanned)) >= 0:
        if text[:at].strip():
            return _before_carriage_return(text, at)
        scanned = at + 1
    return None


def _before_carriage_return(text: bytes | bytearray, at: int) -> int:
    return at - 1 if at and text[at - 1] == ord("\r") else at


def columns(line: bytearray) -> int:
    """Columns of a line's indentation."""
    column = 0
    for byte in line:
        if byte == ord(" "):
            column += 1
        elif byte == ord("\t"):
            column += TAB_COLUMNS - column % TAB_COLUMNS
        else:
            break
    return column

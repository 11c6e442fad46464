"""Steps against repeats: of what follows, of what stands above, of the suggestion
itself, and of what was turned down. Each is a pure function."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence

from tabwise_server.suggest.brackets import CLOSERS, stray_closer
from tabwise_server.suggest.place import Place

LINES_BELOW = 3  # that a suggestion's first line is compared with
NEAR_SHARE = 0.05  # edits in a line's length that still make it the same line
# Of a piece that is said again and again: characters, and how many may stand before a
# letter in it and behind that letter.
PIECE_CHARS, BESIDE_LETTER = range(3, 122), 60


def whole_line(place: Place, text: str) -> str:
    """The first line as it would stand with `text` inserted, blanks around it left out:
    what a turned-down suggestion is remembered by, however much of it is typed."""
    return (place.line_before + text.lstrip("\n").partition("\n")[0]).strip()


def drop_repeated_next(text: str, place: Place) -> str:
    """Cut before the first line that stands right below the cursor anyway, nearly the
    same included, and closing brackets that stand there already."""
    below = next(_visible_lines(place.suffix[len(place.line_after) :]), "")
    if not below.strip():
        return text
    lines = text.split("\n")
    for number, line in enumerate(lines):
        whole = place.line_before + line if number == 0 else line
        if _is_same(whole, below) and not _closes_own(lines[: number + 1], below):
            return "\n".join(lines[:number]).rstrip()
    return text


def drop_repeated_below(text: str, place: Place) -> str:
    """Nothing where the lines to insert are a few lines further down, in their order.

    One line alone may well stand there twice."""
    wanted = [line for line in text.split("\n") if line.strip()]
    if len(wanted) < 2:
        return text
    wanted[0] = place.line_before + wanted[0]
    found = _visible_lines(place.suffix[len(place.line_after) :])
    below = [line for line, _ in zip(found, range(LINES_BELOW + 1), strict=False)]
    for start in range(len(below) - 1):
        if all(map(_is_same, wanted[:2], below[start : start + 2])):
            return ""
    return text


def drop_repeated_previous(text: str, place: Place) -> str:
    """Nothing where what stands right above the cursor would be said again: its line,
    or as many lines as the suggestion has."""
    first = (place.line_before + text.partition("\n")[0]).rstrip()
    if first.strip() and first == place.previous_line.rstrip():
        return ""
    wanted = [line.strip() for line in text.split("\n") if line.strip()]
    if len(wanted) < 2 or place.line_before.strip():
        return text
    room = sum(map(len, wanted)) * 3 + 500
    above = [line.strip() for line in place.prefix[-room:].split("\n") if line.strip()]
    return "" if above[-len(wanted) :] == wanted else text


def drop_loop(text: str, place: Place) -> str:
    """Nothing where the model runs in circles: one piece four times in a row."""
    letters = bytes(map(_is_letter, text))
    lengths = range(PIECE_CHARS.start, min(PIECE_CHARS.stop, len(text) // 4 + 1))
    return "" if any(_circles(text, letters, n) for n in lengths) else text


def drop_rejected(text: str, place: Place, rejected: Sequence[str]) -> str:
    """Nothing that was just rejected or undone: `rejected` holds their `whole_line`s.

    >>> drop_rejected("o(bar)", Place(prefix="x = fo"), ["x = foo(bar)"])
    ''
    """
    return "" if rejected and whole_line(place, text) in rejected else text


def edits_within(a: str, b: str, most: int) -> bool:
    """Whether at most `most` insertions, deletions and replacements turn `a` into `b`.

    Source: Ukkonen's band around Levenshtein's diagonal.

    >>> edits_within("total = a + b", "total = a - b", 1)
    True
    """
    if abs(len(a) - len(b)) > most:
        return False
    row = {column: column for column in range(most + 1)}
    for line, char in enumerate(a, start=1):
        new = {line - line: line} if line <= most else {}
        for column in range(max(1, line - most), min(len(b), line + most) + 1):
            new[column] = min(
                row.get(column - 1, most + 1) + (char != b[column - 1]),
                row.get(column, most + 1) + 1,
                new.get(column - 1, most + 1) + 1,
            )
        if min(new.values(), default=0) > most:
            return False
        row = new
    return row.get(len(b), most + 1) <= most


def _circles(text: str, letters: bytes, length: int) -> bool:
    """Whether a piece of `length` with a letter behind its second character stands four
    times in a row. letters: 1 for each character that is one."""
    same = bytes(map(operator.eq, text, text[length:]))
    thrice = b"\1" * (3 * length)
    first = max(2, length - 1 - BESIDE_LETTER)
    last = min(BESIDE_LETTER, length - 1)
    start = same.find(thrice)
    while start >= 0:
        letter = letters.find(1, start + first)
        if letter <= start + last:
            return letter >= 0
        start = same.find(thrice, letter - last)
    return False


def _is_letter(char: str) -> bool:
    return (char.isalnum() or char == "_") and not char.isdecimal()


def _is_same(line: str, below: str) -> bool:
    """Equal but for blanks around it, or nearly so."""
    line, below = line.strip(), below.strip()
    if line == below:
        return True
    most = int(NEAR_SHARE * len(below))
    return most > 0 and edits_within(line, below, most)


def _closes_own(lines: Sequence[str], below: str) -> bool:
    """Whether the last of `lines`, a closer alone, closes what `lines` opened."""
    closer = below.strip()
    if closer.strip(")]}>,;:"):
        return False
    return closer[0] in CLOSERS and stray_closer("\n".join(lines), closer[0]) is None


def _visible_lines(text: str) -> Iterator[str]:
    """The lines of `text` with something on them, found one by one."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end].rstrip("\r")
        if line.strip():
            yield line
        start = end + 1

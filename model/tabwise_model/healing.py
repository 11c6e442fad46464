"""Token healing: which tokens may come next where the text's next bytes are known.

A cursor stands between characters, a model's tokens do not: after `self.na` the text
most likely goes on inside the token `.name`. So the last piece of the prefix is taken
back from the prompt, and the model writes it again, held to its bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.intp]


KEPT_ANSWERS = 4_096


class TokenIndex:
    """The tokens of a vocabulary by what they begin with.

    bytes_of: by id. ends: ids of the sentinels. line_ends: those, and tokens that are
    blank up to a line break. exact: ids by bytes.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        """token_bytes: bytes by id; an empty one (a sentinel) is never allowed."""
        self.bytes_of = token_bytes
        self.ends = np.array([i for i, b in enumerate(token_bytes) if not b], np.intp)
        breaks = [i for i, b in enumerate(token_bytes) if _breaks_line(b)]
        self.line_ends = np.array([*breaks, *self.ends], np.intp)
        order = sorted((b, i) for i, b in enumerate(token_bytes) if b)
        self._bytes = [b for b, _ in order]
        self._ids = np.array([i for _, i in order], dtype=np.intp)
        self.exact = dict(order)
        self._longest = max(map(len, self._bytes))
        # what is being typed is asked for again at each keystroke
        self.allowed = lru_cache(KEPT_ANSWERS)(self._allowed)

    def _allowed(self, required: bytes) -> Ids:
        """Ids of the tokens that begin with `required` (not empty), or that it begins
        with; at least one, since every byte is a token.

        >>> index = TokenIndex([b"a", b"ab", b"abc", b"b"])
        >>> sorted(index.allowed(b"ab").tolist())
        [0, 1, 2]
        """
        first = bisect_left(self._bytes, required)
        last = bisect_left(self._bytes, _after(required), lo=first)
        parts = (required[:n] for n in range(1, min(len(required), self._longest + 1)))
        shorter = [self.exact[part] for part in parts if part in self.exact]
        return np.concatenate([np.array(shorter, np.intp), self._ids[first:last]])


def _breaks_line(piece: bytes) -> bool:
    return piece.lstrip(b" \t").startswith((b"\n", b"\r\n"))


def _after(required: bytes) -> bytes:
    """The least byte string behind all that begin with `required`."""
    stem = required.rstrip(b"\xff")
    if not stem:
        return b"\xff" * (len(required) + 64)
    return stem[:-1] + bytes([stem[-1] + 1])

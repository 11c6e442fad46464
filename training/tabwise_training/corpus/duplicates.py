"""Finding files that are the same, or nearly: SHA-256 and MinHash over 5-word shingles.

Words are hashed once each and combined by arithmetic on whole arrays, so that a file
costs about what splitting it into words costs.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from zlib import crc32

import attrs
import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

Hashes = npt.NDArray[np.uint64]
Signature = npt.NDArray[np.uint32]
PERMUTATIONS = 128
THRESHOLD = 0.7  # Jaccard similarity of shingles
SHINGLE = 5  # words
# Of 128 values, 25 bands of 5 find 99 % of pairs at the threshold; candidates are then
# compared by all values, so that finding too many costs time only.
BANDS, ROWS = 25, 5

_WORD = re.compile(rb"\w+")
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_CHUNK = 1024  # shingles at once, so that the products stay in the cache


def split_words(text: str) -> list[bytes]:
    """Runs of letters, digits and underscores."""
    return _WORD.findall(text.encode())


def word_hashes(text: str) -> Hashes:
    """One number a word, in order."""
    words = split_words(text)
    return np.fromiter(map(crc32, words), np.uint64, len(words))


def windows(words: Hashes, length: int) -> Hashes:
    """The hashes of all runs of `length` words; of the whole if it is shorter."""
    length = min(length, len(words))
    if length == 0:
        return words
    out = words[: len(words) - length + 1].copy()
    for i in range(1, length):
        out *= _MIX
        out += words[i : len(words) - length + 1 + i]
    out *= _MIX
    return out


def signature(words: Hashes) -> Signature:
    """The MinHash of a file, from `word_hashes`."""
    shingles = np.unique(windows(words, SHINGLE) >> _HALF).tolist()
    made = _minhash()
    for start in range(0, len(shingles), _CHUNK):
        made.update_batch(shingles[start : start + _CHUNK])
    return np.asarray(made.hashvalues, np.uint32)


def digest(text: str) -> str:
    """The same for files that differ only in white space at ends of lines and file."""
    lines = (line.rstrip() for line in text.rstrip().split("\n"))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@attrs.frozen
class Repeat:
    """What a file repeats: `of` is the earlier file's name."""

    reason: str
    of: str


class Duplicates:
    """Remembers the files seen, and finds what a new one repeats.

    Takes about 10 kB of memory a file.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._exact: dict[str, str] = {}
        self._near = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS))
        self._files: list[tuple[str, Signature]] = []  # by the number in `_near`

    def add(self, name: str, digest: str, signature: Signature) -> Repeat | None:
        """None if the file is new, and then it is remembered. Names may repeat: two
        folders can have the same one."""
        if digest in self._exact:
            return Repeat("duplicate", self._exact[digest])
        minhash = _minhash(signature)
        for number in sorted(self._near.query(minhash)):
            other, values = self._files[number]
            if np.count_nonzero(values == signature) >= self._threshold * PERMUTATIONS:
                return Repeat("near duplicate", other)
        self._exact[digest] = name
        self._near.insert(len(self._files), minhash, check_duplication=False)
        self._files.append((name, signature))
        return None


def _minhash(values: Signature | None = None) -> MinHash:
    return MinHash(
        num_perm=PERMUTATIONS,
        scheme="affine32",
        hashfunc=int,
        hashvalues=values,
        permutations=_permutations(),
    )


@cache
def _permutations() -> npt.NDArray[np.uint32]:
    """datasketch's own, made once: drawing them costs as much as a small file."""
    made = MinHash(num_perm=PERMUTATIONS, scheme="affine32").permutations
    return np.asarray(made, np.uint32)

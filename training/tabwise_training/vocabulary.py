"""Whether two tokenizers give the same ids."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import regex

from tabwise_model.tokenizer import Tokenizer

KINDS = "'sSlL1. \t\n\ré"  # of characters that split patterns tell apart
LENGTH = 4  # a run of digits is cut after three, if at all


def cut_alike(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether any text has the same ids in both."""
    return one.dumps() == other.dumps() and _split_alike(one.pattern, other.pattern)


def _split_alike(one: str, other: str) -> bool:
    """Whether two patterns cut every short text alike: one that is well known may be
    written in several ways, as GPT-2's is."""
    return one == other or all(
        a == b for a, b in zip(_short_cuts(one), _short_cuts(other), strict=True)
    )


def _short_cuts(pattern: str) -> Iterator[list[str]]:
    compiled = regex.compile(pattern)
    for text in product(KINDS, repeat=LENGTH):
        yield [match.group() for match in compiled.finditer("".join(text))]

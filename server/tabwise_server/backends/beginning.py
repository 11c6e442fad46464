"""How much of a line is likely enough to show where the whole of it is not, for servers
that do not know beginnings.

Held to the same rules as our own engine's: up to the end of a word, or a visible sign.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from tabwise_server.backends.tokens import Token

# Where a word ends that something else follows, or other visible text.
_END = re.compile(r"\w(?=\W)|[^\w\s]\Z")


def likely_beginning(tokens: Iterable[Token], least: float) -> str:
    """The longest beginning with a probability of at least `least`, "" for none.

    >>> line = [Token("self", -0.1), Token(".na", -0.1), Token("me", -0.1)]
    >>> likely_beginning([*line, Token("(", -0.9, {"(": -0.9, " ": -0.9})], 0.7)
    'self.name'
    """
    found, text, score = "", "", 0.0
    for token in tokens:
        over = _share_that_ends_a_word(token) if _is_letter(text[-1:]) else 0.0
        if math.exp(score) * over >= least:
            found = text
        score += token.logprob
        if math.exp(score) < least:
            break
        text += token.text
        ends = [match.end() for match in _END.finditer(text)]
        found = max(found, text[: ends[-1]] if ends else "", key=len)
    return found


def _share_that_ends_a_word(token: Token) -> float:
    """Of what was likely in its place: that before which a word is over. Without others
    to compare, its own probability where it is such a one."""
    shares = {text: math.exp(log) for text, log in token.likeliest.items() if text}
    if len(shares) < 2:
        return 0.0 if _is_letter(token.text[:1]) else math.exp(token.logprob)
    on = sum(share for text, share in shares.items() if _is_letter(text[0]))
    whole = sum(shares.values())
    return (whole - on) / whole if whole else 0.0


def _is_letter(text: str) -> bool:
    return re.match(r"\w", text) is not None

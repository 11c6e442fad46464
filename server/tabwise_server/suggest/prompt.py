"""From a place in a document to what the model is asked.

Windows are anchored: their far edges move in steps of a quarter of the budget, so
that a keystroke only appends and the backend's prefix cache stays warm.

    A prefix budget of 4,000 characters, a cursor at offset 10,400: the window starts
    at the first multiple of 1,000 that leaves at most 4,000, which is 7,000, moved on
    to the next line start. It stays there until the cursor passes 11,000.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from tabwise_server.suggest.place import Place, indent_of, opens_block
from tabwise_server.suggest.syntax import surroundings
from tabwise_server.suggest.trim import is_word
from tabwise_server.wire import CompletionRequest, ContextChunk, StopKind


@attrs.frozen(kw_only=True)
class PromptOptions:
    """Budgets: characters of text, tokens to generate, milliseconds to answer.

    min_confidence: what is less likely will not be shown, so the backend may give up.
    min_part_confidence: of a line's beginning, which is not asked for where a word
    stands to the right.
    """

    max_prefix_chars: int = 24_000
    max_suffix_chars: int = 6_000
    max_new_tokens: int = 48
    deadline_ms: float | None = None
    min_confidence: float = 0.0
    min_part_confidence: float | None = None


def build_request(
    place: Place,
    options: PromptOptions,
    session: str | None = None,
    context: Sequence[ContextChunk] = (),
) -> CompletionRequest:
    """The request for `place`; line endings become LF, whatever the document's are.

    context: see `choose_context`; the most useful last.
    """
    words_follow = any(map(is_word, place.line_after))
    return CompletionRequest(
        prefix=_as_lf(cut_prefix(place.prefix, options.max_prefix_chars)),
        suffix=_as_lf(cut_suffix(place.suffix, options.max_suffix_chars)),
        path=place.path,
        language=place.language,
        context=list(context),
        max_new_tokens=options.max_new_tokens,
        stop=choose_stop(place),
        session=session,
        deadline_ms=options.deadline_ms,
        min_confidence=options.min_confidence,
        min_part_confidence=None if words_follow else options.min_part_confidence,
    )


def however_unlikely(request: CompletionRequest) -> CompletionRequest:
    """The same request for the likeliest line, whatever its probability."""
    return attrs.evolve(request, min_confidence=0.0, min_part_confidence=None)


def cut_prefix(prefix: str, budget: int) -> str:
    """At most `budget` characters before the cursor, from a line's start if near.

    The start depends on the length alone and moves by budget // 4 at a time.
    """
    if len(prefix) <= budget:
        return prefix
    step = max(budget // 4, 1)
    start = -(-(len(prefix) - budget) // step) * step
    line_end = prefix.find("\n", start - 1, start + step)
    return prefix[line_end + 1 if line_end >= 0 else start :]


def cut_suffix(suffix: str, budget: int) -> str:
    """At most `budget` characters after the cursor, up to a line's end if near."""
    if len(suffix) <= budget:
        return suffix
    line_end = suffix.rfind("\n", budget // 2, budget)
    return suffix[: line_end + 1 if line_end >= 0 else budget]


def worth_asking(place: Place) -> bool:
    """Whether anything could show here: not in the middle of a word, nor before one
    that the suggestion would grow into, as `fit_into_word` would drop it.

    >>> worth_asking(Place(prefix="pri", suffix="nt(x)"))
    False
    """
    return not (is_word(place.line_before[-1:]) and is_word(place.line_after[:1]))


def choose_stop(place: Place) -> StopKind:
    """A block on an empty line that opens one, otherwise a line."""
    before = place.line_before
    alone = not before.strip() and not place.line_after.strip()
    if not alone or not opens_block(place.previous_line):
        return "line"
    filled = len(indent_of(place.next_line)) > len(indent_of(place.previous_line))
    colon = place.previous_line.partition(" #")[0].rstrip().endswith(":")
    if filled or not colon:
        return "line"
    prose = place.is_python and surroundings(place) != "code"
    return "line" if prose else "block"


def _as_lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text

"""From a raw completion to a suggestion fit to show, or nothing.

Each step is a pure function of the text and the place (and, where it says so, of an
option); steps stand in order of cost. An empty text means nothing to show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import attrs

from tabwise_server.suggest.indentation import (
    IndentStyle,
    cut_at_block_end,
    drop_double_space,
    match_style,
)
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.repeats import (
    drop_loop,
    drop_rejected,
    drop_repeated_below,
    drop_repeated_next,
    drop_repeated_previous,
)
from tabwise_server.suggest.syntax import keep_syntax
from tabwise_server.suggest.trim import (
    cut_at_sentinel,
    drop_closers_alone,
    drop_short,
    fit_into_word,
    one_line_inside_a_line,
    stay_on_the_line,
    trim_end,
    trim_overlap,
)

Step = Callable[[str, Place], str]


@attrs.frozen(kw_only=True)
class ShapeOptions:
    """min_confidence: below it nothing shows (see `levels.threshold`).
    min_visible_chars: shorter suggestions are not worth a glance.
    style: the editor's indentation, for documents that do not show theirs.
    rejected: `whole_line`s of what was just turned down."""

    min_confidence: float = 0.0
    min_visible_chars: int = 2
    style: IndentStyle | None = None
    rejected: tuple[str, ...] = ()


def shape(
    raw: str,
    place: Place,
    confidence: float = 1.0,
    options: ShapeOptions = ShapeOptions(),
) -> str | None:
    """The text to insert at `place`, with LF line endings, or None.

    >>> shape("a, b):\\n", Place(prefix="def add(", suffix="):\\n    return a + b\\n"))
    'a, b'
    """
    text = raw
    for step in steps_for(confidence, options).values():
        text = step(text, place)
        if not text:
            return None
    return text


def steps_for(confidence: float, options: ShapeOptions) -> Mapping[str, Step]:
    """Every step by its name, in order."""
    return {
        "confidence": partial(drop_doubtful, confidence=confidence, options=options),
        "special tokens": cut_at_sentinel,
        "one line inside a line": one_line_inside_a_line,
        "stay on the line": stay_on_the_line,
        "double space": drop_double_space,
        "block end": cut_at_block_end,
        "trailing blanks": trim_end,
        "rest of the line": trim_overlap,
        "into a word": fit_into_word,
        "closers alone": drop_closers_alone,
        "too short": partial(drop_short, min_visible_chars=options.min_visible_chars),
        "turned down": partial(drop_rejected, rejected=options.rejected),
        "repeats what follows": drop_repeated_next,
        "repeats further down": drop_repeated_below,
        "repeats what stands above": drop_repeated_previous,
        "repeats itself": drop_loop,
        "indentation": partial(match_style, editor=options.style),
        "syntax": keep_syntax,
    }


def drop_doubtful(
    text: str, place: Place, confidence: float, options: ShapeOptions
) -> str:
    """Nothing that the model itself is not sure of."""
    return text if confidence >= options.min_confidence else ""

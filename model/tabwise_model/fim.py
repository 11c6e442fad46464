"""Fill-in-the-middle prompts: the one place that knows the order of sentinels.

PSM  <prefix> P <suffix> S <middle> M <end>
SPM  <prefix> <suffix> S <middle> P M <end>

In SPM the middle continues the prefix with nothing in between: a keystroke only appends
to what is cached, and all that a model knows from plain code serves it here. So that is
what is served. Chunks of other files stand before either: <file_sep> path newline text,
each. Source: arXiv 2207.14255, section 3 (SPM in the variant that shares PSM's order of
sentinels).
"""

from __future__ import annotations

from collections.abc import Sequence

from tabwise_model.tokenizer import Tokenizer


def render_psm(
    tokenizer: Tokenizer, prefix: Sequence[int], suffix: Sequence[int]
) -> list[int]:
    """The prompt whose continuation is the middle; ids in, ids out."""
    t = tokenizer
    return [t.fim_prefix, *prefix, t.fim_suffix, *suffix, t.fim_middle]


def render_spm(
    tokenizer: Tokenizer, prefix: Sequence[int], suffix: Sequence[int]
) -> list[int]:
    """As `render_psm`, with the suffix first and the prefix last."""
    t = tokenizer
    return [t.fim_prefix, t.fim_suffix, *suffix, t.fim_middle, *prefix]


def render_context(tokenizer: Tokenizer, path: str, text: str) -> list[int]:
    """One chunk of another file, to stand before a FIM prompt or plain code."""
    return [tokenizer.file_sep, *tokenizer.encode(f"{path}\n{text}")]

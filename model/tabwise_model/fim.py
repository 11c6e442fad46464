"""Fill-in-the-middle prompts: the one place that knows the order of sentinels.

PSM  <prefix> P <suffix> S <middle> M <end>
SPM  <suffix> S <prefix> P <middle> M <end>     (llama.cpp's --spm-infill order)

In SPM a keystroke only appends to what is cached, so that is what is served. Chunks of
other files stand before either: <file_sep> path newline text, each.
Source: arXiv 2207.14255, section 3.
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
    """As `render_psm`, with the suffix first."""
    t = tokenizer
    return [t.fim_suffix, *suffix, t.fim_prefix, *prefix, t.fim_middle]


def render_context(tokenizer: Tokenizer, path: str, text: str) -> list[int]:
    """One chunk of another file, to stand before a FIM prompt or plain code."""
    return [tokenizer.file_sep, *tokenizer.encode(f"{path}\n{text}")]

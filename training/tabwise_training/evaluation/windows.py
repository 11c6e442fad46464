"""What of a file an editor's request brings: the evaluation sees no more."""

from __future__ import annotations

from tabwise_server.suggest.prompt import PromptOptions, cut_prefix, cut_suffix
from tabwise_training.evaluation.positions import Position


def hole_of(position: Position) -> tuple[str, str]:
    """(prefix, suffix) of a cursor, cut as the language server cuts them."""
    options = PromptOptions()
    return (
        cut_prefix(position.prefix, options.max_prefix_chars),
        cut_suffix(position.suffix, options.max_suffix_chars),
    )

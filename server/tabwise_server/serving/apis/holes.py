"""Holes that clients write into a prompt themselves, between sentinels."""

from __future__ import annotations

from tabwise_model.infill import Hole
from tabwise_model.tokenizer import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX

# Ours, which are Qwen's too, and StarCoder's, which editors fall back to for a model
# that they do not know.
FAMILIES = (
    (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
)


def written_hole(prompt: str) -> Hole | None:
    """The hole of a prompt like `<prefix>a<suffix>b<middle>`, or with the suffix first;
    what stands behind the middle has been written already. None for plain text."""
    for prefix_mark, suffix_mark, middle_mark in FAMILIES:
        _, suffix_first, rest = prompt.partition(prefix_mark + suffix_mark)
        if suffix_first:
            suffix, found, prefix = rest.rpartition(middle_mark)
        else:
            _, _, rest = prompt.partition(prefix_mark)
            prefix, _, rest = rest.partition(suffix_mark)
            suffix, found, written = rest.rpartition(middle_mark)
            prefix += written
        if found:
            return Hole(prefix=prefix, suffix=suffix)
    return None

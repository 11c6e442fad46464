"""What a model must beat: copying the most similar earlier line of the same file."""

from __future__ import annotations

from tabwise_training.evaluation.positions import Position


def copy_similar_line(position: Position) -> str:
    """The rest of the earlier line that shares most with the cursor's line.

    Lines that begin as the typed part does come first, the nearest of them wins; with
    nothing typed it is the line that followed the last line equal to the one before.
    """
    *before, typed = position.prefix.split("\n")
    start = typed.lstrip()
    if not start:
        return _line_after_the_same(before)
    for line in reversed(before):
        if line.lstrip().startswith(start):
            return line.lstrip()[len(start) :].rstrip()
    for length in range(len(start) - 1, 2, -1):
        tail = start[-length:]
        for line in reversed(before):
            at = line.find(tail)
            if at >= 0:
                return line[at + length :].rstrip()
    return ""


def _line_after_the_same(before: list[str]) -> str:
    if not before:
        return ""
    last = before[-1].strip()
    for i in range(len(before) - 2, -1, -1):
        if before[i].strip() == last:
            return before[i + 1].strip()
    return ""

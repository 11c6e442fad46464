"""Where a piece of code is cut for fill-in-the-middle training.

Half of the cuts take the rest of a line or whole lines, as an editor asks for; 30 %
take a syntax node; 20 % random characters. Cuts fall inside identifiers too.
"""

from __future__ import annotations

import tree_sitter
import tree_sitter_python
from numpy.random import Generator

LINE_SHARE = 0.5
NODE_SHARE = 0.3
MAX_MIDDLE = 400  # characters, or bytes of a syntax node

Span = tuple[int, int]  # [start, end) of the middle, in characters


class SpanChooser:
    """Draws spans; holds the parser, which cannot cross processes."""

    def __init__(self) -> None:
        language = tree_sitter.Language(tree_sitter_python.language())
        self._parser = tree_sitter.Parser(language)

    def choose(self, text: str, rng: Generator) -> Span | None:
        """The middle of `text`, None if it has nothing to cut."""
        kind = rng.random()
        if kind < LINE_SHARE:
            return _line_span(text, rng)
        if kind < LINE_SHARE + NODE_SHARE:
            return self._node_span(text, rng)
        return _random_span(text, rng)

    def _node_span(self, text: str, rng: Generator) -> Span | None:
        data = text.encode("utf-8")
        found: list[tuple[int, int]] = []
        stack = [self._parser.parse(data).root_node]
        while stack:
            node = stack.pop()
            size = node.end_byte - node.start_byte
            if 4 <= size <= MAX_MIDDLE and node.is_named and not node.has_error:
                found.append((node.start_byte, node.end_byte))
            stack.extend(node.children)
        if not found:
            return _line_span(text, rng)
        start, end = found[int(rng.integers(len(found)))]
        return len(data[:start].decode("utf-8")), len(data[:end].decode("utf-8"))


def _line_span(text: str, rng: Generator) -> Span | None:
    """From some place in a line to its end, or to the end of one of the next lines."""
    lines = text.splitlines(keepends=True)
    visible = [i for i, line in enumerate(lines) if line.strip()]
    if not visible:
        return None
    first = visible[int(rng.integers(len(visible)))]
    begin = sum(len(line) for line in lines[:first])
    body = lines[first].rstrip("\r\n")
    indent = len(body) - len(body.lstrip())
    place = rng.random()
    if place < 0.15:
        column = 0
    elif place < 0.35:
        column = indent
    else:
        column = int(rng.integers(indent, len(body.rstrip())))
    last = first
    if rng.random() < 0.2:  # several lines
        last = min(first + int(rng.integers(1, 5)), len(lines) - 1)
    end = sum(len(line) for line in lines[: last + 1])
    end -= len(lines[last]) - len(lines[last].rstrip("\r\n"))
    return begin + column, max(end, begin + column)


def _random_span(text: str, rng: Generator) -> Span | None:
    if not text:
        return None
    start = int(rng.integers(len(text)))
    return start, min(len(text), start + int(rng.integers(1, MAX_MIDDLE)))

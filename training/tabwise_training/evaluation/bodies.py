"""Block bodies: after `if x:` or `def f():`, how many of the next lines come right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from tabwise_training.evaluation.metrics import Share, mean_json, share_json

MAX_LINES = 12  # of a body that is asked for
MAX_DRAWS = 200  # a wanted body


@attrs.frozen(kw_only=True)
class Body:
    """A cursor at the indentation of a block's first line. truth: the body's lines
    without trailing blanks, the first without its indentation."""

    path: str
    prefix: str
    suffix: str
    indent: int
    truth: tuple[str, ...]


def draw_bodies(
    documents: Sequence[tuple[str, str]], count: int, seed: int
) -> list[Body]:
    """At most `count` bodies of one to twelve lines; the same for the same seed."""
    rng = np.random.default_rng(seed)
    sizes = np.array([len(text) for _, text in documents], float)
    found: list[Body] = []
    for _ in range(count * MAX_DRAWS):
        if len(found) == count:
            break
        path, text = documents[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
        lines = text.split("\n")
        body = _body_at(path, lines, int(rng.integers(len(lines))))
        if body is not None:
            found.append(body)
    return found


def _body_at(path: str, lines: list[str], header: int) -> Body | None:
    """The body below a line that opens a block; None if it does not, or is too long."""
    line = lines[header].rstrip()
    if not line.endswith(":") or line.lstrip().startswith("#"):
        return None
    outer = _indent(line)
    last = header
    for number in range(header + 1, len(lines)):
        if lines[number].strip() and _indent(lines[number]) <= outer:
            break
        if lines[number].strip():
            last = number
    if not 1 <= last - header <= MAX_LINES or not lines[header + 1].strip():
        return None
    body = [one.rstrip() for one in lines[header + 1 : last + 1]]
    start = _indent(body[0])
    return Body(
        path=path,
        prefix="\n".join([*lines[: header + 1], body[0][:start]]),
        suffix="\n".join(["", *lines[last + 1 :]]),
        indent=start,
        truth=(body[0][start:], *body[1:]),
    )


def measure_bodies(bodies: Sequence[Body], texts: Sequence[str]) -> dict[str, Any]:
    """Exact match of first lines and of whole bodies, and the mean share of a body's
    lines that come right before the first wrong one."""
    said = [[line.rstrip() for line in text.rstrip().split("\n")] for text in texts]
    pairs = [(body.truth, lines) for body, lines in zip(bodies, said, strict=True)]
    first = sum(truth[0] == lines[0] for truth, lines in pairs)
    whole = sum(list(truth) == lines for truth, lines in pairs)
    right = [lines_right(truth, lines) / len(truth) for truth, lines in pairs]
    return {
        "first_line": share_json(Share(first, len(bodies))),
        "whole": share_json(Share(whole, len(bodies))),
        "lines_right": mean_json(right),
    }


def lines_right(truth: Sequence[str], lines: Sequence[str]) -> int:
    """How many lines are right before the first wrong one."""
    count = 0
    for wanted, line in zip(truth, lines, strict=False):
        if wanted != line:
            break
        count += 1
    return count


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())

"""What two or more looks at a backend's metrics say of the time between them."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from itertools import pairwise

import attrs

_LABEL = re.compile(r'\{(\w+)="([^"]*)"\}$')


@attrs.frozen
class Look:
    """at: monotonic seconds; values: as `metrics_text.read_metrics` gives them."""

    at: float
    values: Mapping[str, float]


class Looks:
    """The looks of the last `window_s`. A backend that was started again counts from
    its start: what falls is taken to have begun at nothing."""

    def __init__(self, window_s: float = 30.0) -> None:
        self._window_s = window_s
        self._looks: deque[Look] = deque()

    def add(self, look: Look) -> None:
        self._looks.append(look)
        while len(self._looks) > 2 and look.at - self._looks[1].at >= self._window_s:
            self._looks.popleft()

    def now(self, name: str) -> float:
        """The newest value; 0 where there is none."""
        return self._looks[-1].values.get(name, 0.0) if self._looks else 0.0

    def grown(self, name: str) -> float:
        """By how much a counter has grown within the window."""
        values = [look.values.get(name, 0.0) for look in self._looks]
        steps = pairwise(values)
        return sum(
            after - before if after >= before else after for before, after in steps
        )

    def rate(self, name: str) -> float:
        """A counter's growth a second."""
        span = self._looks[-1].at - self._looks[0].at if len(self._looks) > 1 else 0.0
        return self.grown(name) / span if span else 0.0

    def rates(self, name: str) -> list[float]:
        """From each look to the next, the newest last."""
        found = []
        for before, after in pairwise(self._looks):
            old, new = before.values.get(name, 0.0), after.values.get(name, 0.0)
            span = after.at - before.at
            found.append(max(new - old, 0.0) / span if span > 0 else 0.0)
        return found

    def share(self, part: str, whole: str) -> float | None:
        """Of one counter's growth in another's; None of nothing."""
        total = self.grown(whole)
        return self.grown(part) / total if total else None

    def labelled(self, name: str) -> dict[str, float]:
        """Growth by the value of a counter's only label."""
        names = self._looks[-1].values if self._looks else {}
        found = {}
        for full in names:
            label = _LABEL.search(full)
            if label is not None and full.startswith(f"{name}{{"):
                found[label[2]] = self.grown(full)
        return found

    def quantile(self, name: str, share: float) -> float | None:
        """The value under which `share` of a histogram's growth lies, by a straight
        line within its bucket; None of nothing. More than all bounds is infinite."""
        counts = sorted(
            (math.inf if bound == "+Inf" else float(bound), count)
            for bound, count in self.labelled(f"{name}_bucket").items()
        )
        if not counts or not counts[-1][1]:
            return None
        wanted, low, below = share * counts[-1][1], 0.0, 0.0
        for bound, count in counts:
            if count >= wanted:
                if math.isinf(bound):
                    return math.inf
                return low + (bound - low) * (wanted - below) / (count - below)
            low, below = bound, count
        return None

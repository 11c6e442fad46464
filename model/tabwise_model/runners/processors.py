"""How many processors there are to compute on."""

from __future__ import annotations

import os


def usable_processors() -> int:
    """Those that this process may use. A container's quota is not seen."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not every system has it
        return os.cpu_count() or 1

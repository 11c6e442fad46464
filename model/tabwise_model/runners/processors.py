"""How many processors there are to compute on."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_processors() -> int:
    """Those that this process may use; of a container's or a service's quota, which
    may name a part of one, as many as it fills."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not every system has it
        processors = os.cpu_count() or 1
    quota = min(map(_quota, _own_cgroups()), default=math.inf)
    return processors if quota > processors else max(1, math.ceil(quota))


def _own_cgroups() -> list[Path]:
    """Of cgroups, version 2: this process' and those above it."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    ours = [Path(line[4:]) for line in lines if line.startswith("0::/")]
    return [CGROUPS / path for one in ours for path in (one, *one.parents)]


def _quota(cgroup: Path) -> float:
    """How many processors' time it may take; infinite where it says nothing."""
    try:
        most, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        return int(most) / int(period)
    except (OSError, ValueError):  # "max" among them
        return math.inf

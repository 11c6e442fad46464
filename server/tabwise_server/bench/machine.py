"""The machine that a figure was measured on, in words, and a process's memory."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

# As clock_getcpuclockid(3) makes a process's clock.
SCHEDULED = 2


def describe_machine() -> str:
    """CPU model, how many there are, and how busy they are."""
    busy = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{_cpu_name()}, {os.cpu_count()} CPUs{busy}, {platform.system()}"


def resident_mb(pid: int) -> float | None:
    """Megabytes (2**20 bytes) in memory; None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None


def cpu_seconds(pid: int) -> float | None:
    """Processor time that a process has used, by the scheduler's clock (Linux); None
    where the system does not say."""
    try:
        return time.clock_gettime(~pid << 3 | SCHEDULED)
    except (AttributeError, OSError):
        return None


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = (line for line in text.splitlines() if line.startswith("model name"))
    return next(names, platform.machine()).partition(": ")[2] or platform.machine()

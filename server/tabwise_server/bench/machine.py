"""The machine that a figure was measured on, in words, and a process's memory."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path


def describe_machine() -> str:
    """CPU model, how many there are, and how busy they are."""
    busy = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{_cpu_name()}, {os.cpu_count()} CPUs{busy}, {platform.system()}"


def family(pid: int) -> list[int]:
    """A process and those that it started, which still run, theirs among them."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, children.read_text(encoding="ascii").split())
    return found


def sum_over(what: Callable[[int], float | None], pids: Iterable[int]) -> float | None:
    """`what` of all processes; None where one of them cannot be told."""
    found = [what(pid) for pid in pids]
    known = [one for one in found if one is not None]
    return sum(known) if len(known) == len(found) else None


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
    """Processor time that a process has used; None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = (line for line in text.splitlines() if line.startswith("model name"))
    return next(names, platform.machine()).partition(": ")[2] or platform.machine()

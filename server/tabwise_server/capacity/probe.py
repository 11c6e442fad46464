"""How much longer computing takes on this machine than it ought to: what its other work
does to whoever wants a core for a few milliseconds."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

SLICE_S = 0.003  # computed at a time: about what a keystroke needs
PAUSE_S = 0.047  # so that the probe itself takes a sixteenth of a core


@contextmanager
def probing() -> Iterator[list[float]]:
    """The list holds, after the block, real seconds per CPU second, of each slice."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_probe, args=(theirs,))
    process.start()
    found: list[float] = []
    try:
        yield found
    finally:
        ours.send(None)
        found += ours.recv()
        process.join()


def _probe(told: Connection) -> None:
    found: list[float] = []
    while not told.poll(PAUSE_S):
        began, until = time.perf_counter(), time.process_time() + SLICE_S
        while time.process_time() < until:
            pass
        found.append(max(1.0, (time.perf_counter() - began) / SLICE_S))
    told.send(found)

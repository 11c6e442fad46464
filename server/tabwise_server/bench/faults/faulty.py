"""`tabwise serve` with an engine that can be broken from outside; nothing else differs.

    python -m tabwise_server.bench.faults.faulty serve ...

SIGUSR1: the engine's thread ends in its next step. SIGUSR2: its next step never ends.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.runners import choose
from tabwise_model.runners.protocol import Chunk, Logits, Runner
from tabwise_server.cli import main

ENDS, HANGS = signal.SIGUSR1, signal.SIGUSR2


class EngineEnds(BaseException):
    """No Exception, so that the engine's thread does not survive it."""


class Breakable:
    """A runner that breaks when it is told to."""

    def __init__(self, runner: Runner, wanted: list[signal.Signals]) -> None:
        self._runner, self._wanted = runner, wanted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def extend(self, chunks: Sequence[Chunk]) -> Logits:
        if self._wanted:
            if self._wanted.pop() is ENDS:
                raise EngineEnds
            threading.Event().wait()
        return self._runner.extend(chunks)


def run() -> int:
    wanted: list[signal.Signals] = []
    for one in (ENDS, HANGS):
        signal.signal(one, lambda number, _: wanted.append(signal.Signals(number)))
    load_runner = choose.load_runner

    def breakable(checkpoint: Checkpoint, **options: Any) -> Any:
        return Breakable(load_runner(checkpoint, **options), wanted)

    choose.load_runner = breakable
    threading.excepthook = lambda _: None  # the end of a thread is what is wanted
    return main()


if __name__ == "__main__":
    sys.exit(run())

"""Doing the same work on many inputs, in this process or in several, in order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Protocol, TypeVar

Result = TypeVar("Result")


class OrderedMap(Protocol):
    """`map`, or an executor's."""

    def __call__(
        self, work: Callable[..., Result], /, *inputs: Iterable[object]
    ) -> Iterator[Result]: ...


@contextmanager
def ordered_map(processes: int, tasks: int) -> Iterator[OrderedMap]:
    """A `map` over fresh processes, or over none if one would do.

    Ctrl-C reaches this process only; on it or an error, what has not begun is dropped.
    """
    processes = min(processes, tasks)
    if processes <= 1:
        yield _map_here
        return
    ignore = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=ignore)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _map_here(
    work: Callable[..., Result], /, *inputs: Iterable[object]
) -> Iterator[Result]:
    return map(work, *inputs)

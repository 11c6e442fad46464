"""What a daemon remembers of its user's workspaces: their Python files, in memory.

A question that names a folder has it read in a thread, and is answered by what is known
of it then. While questions come it is looked at again, and what has changed is read
again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import numpy as np

from tabwise_model.repository import MOST_REMEMBERED_TOKENS, Repository
from tabwise_model.source_files import list_files
from tabwise_model.source_filters import own_text
from tabwise_model.tokenizer import Ids, Tokenizer
from tabwise_server.serving.question import Workspace
from tabwise_server.suggest.privacy import is_secret, matches

logger = logging.getLogger(__name__)

MOST_WORKSPACES = 4  # that were asked for last; others are forgotten
MOST_FILES = 50_000  # that are looked at where no git lists them, of whatever kind
MOST_BYTES = 1_000_000  # of a file; what is larger was not written by hand
# Until a folder is looked at again: at least, and for so many times as that takes.
LOOK_AGAIN_S, TIMES_TAKEN = 10.0, 100
NICE = 10  # of the thread that reads, beside those that answer

Stamp = tuple[int, int]  # when a file changed, in nanoseconds, and its size in bytes


@attrs.frozen(eq=False)
class Known:
    """A folder as it was read. stamps: of all files that were looked into, the newest
    first, whether they are worth remembering or not. left_out: tokens of those that
    were, and for which there was no room."""

    repository: Repository = attrs.Factory(lambda: Repository.of({}))
    stamps: dict[str, Stamp] = attrs.Factory(dict)
    left_out: dict[str, int] = attrs.Factory(dict)


@attrs.define(eq=False)
class _Kept:
    """due: when to look again, in monotonic seconds."""

    known: Known = attrs.Factory(Known)
    due: float = 0.0
    reading: bool = False


class Workspaces:
    """Used from any thread."""

    def __init__(
        self, tokenizer: Tokenizer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokenizer = tokenizer
        self._clock = clock
        self._kept: OrderedDict[tuple[str, tuple[str, ...]], _Kept] = OrderedDict()
        self._lock = threading.Lock()  # of which are kept
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="workspaces", initializer=_lower_priority
        )

    def look(self, workspace: Workspace) -> Repository:
        """What is known of it; nothing before it was read for the first time."""
        name = workspace.folder, workspace.unread
        with self._lock:
            kept = self._kept.get(name) or _Kept()
            self._kept[name] = kept
            self._kept.move_to_end(name)
            if len(self._kept) > MOST_WORKSPACES:
                self._kept.popitem(last=False)
            if not kept.reading and self._clock() >= kept.due:
                kept.reading = True
                with contextlib.suppress(RuntimeError):  # closed, and soon gone
                    self._thread.submit(self._read, workspace, kept)
        return kept.known.repository

    @property
    def tokens(self) -> int:
        """That are remembered, of all workspaces."""
        with self._lock:
            known = [kept.known.repository for kept in self._kept.values()]
        return sum(one.remembered.tokens for one in known)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _read(self, workspace: Workspace, kept: _Kept) -> None:
        began, first = self._clock(), not kept.known.stamps
        try:
            kept.known = read(workspace, self._tokenizer, kept.known)
        except Exception as error:  # noqa: BLE001 - whatever a file system comes up with
            # where, not what: an error's text may quote a file
            where = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s, reading a workspace\n%s", type(error).__name__, where)
        took_s = self._clock() - began
        if first and kept.known.stamps:
            found = kept.known.repository
            logger.info(
                "a workspace of %d files, %d tokens, read in %.1f s",
                len(found.places), found.remembered.tokens, took_s,
            )  # fmt: skip
        kept.due = self._clock() + max(LOOK_AGAIN_S, TIMES_TAKEN * took_s)
        kept.reading = False


def read(
    workspace: Workspace, tokenizer: Tokenizer, before: Known | None = None
) -> Known:
    """The folder as it is now; of files that are as they were `before`, nothing is read
    again. Where there are too many, the newest are remembered."""
    before = before or Known()
    root = Path(workspace.folder)
    stamps = _stamps(root, workspace.unread)
    if stamps == before.stamps:
        return before
    files: dict[str, Ids] = {}
    left, left_out = MOST_REMEMBERED_TOKENS, {}
    for path, stamp in stamps.items():
        unchanged = before.stamps.get(path) == stamp
        if unchanged and before.left_out.get(path, 0) > left:
            left_out[path] = before.left_out[path]
            continue
        if unchanged and path not in before.left_out:
            ids = before.repository.ids_of(path)
        else:
            ids = _tokens(root / path, tokenizer)
        if ids is None:
            continue
        if len(ids) > left:
            left_out[path] = len(ids)
            continue
        files[path] = ids
        left -= len(ids)
    return Known(Repository.of(files), stamps, left_out)


def _stamps(root: Path, unread: tuple[str, ...]) -> dict[str, Stamp]:
    """Of the folder's Python files that may be read, the newest first. A folder that
    holds a home is not taken for a workspace."""
    if Path.home().is_relative_to(root):
        return {}
    found: dict[str, Stamp] = {}
    for path in list_files(root, MOST_FILES):
        if not path.endswith(".py") or any(matches(path, p) for p in unread):
            continue
        file = root / path
        if is_secret(file.as_posix()):
            continue
        with contextlib.suppress(OSError):  # gone meanwhile
            status = file.lstat()  # what a link names may lie outside
            if stat.S_ISREG(status.st_mode) and status.st_size <= MOST_BYTES:
                found[path] = status.st_mtime_ns, status.st_size
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def _tokens(file: Path, tokenizer: Tokenizer) -> Ids | None:
    """(N,); None for what cannot be read, or is not worth remembering."""
    try:
        text = own_text(file.read_bytes())
    except OSError:
        return None
    return None if text is None else np.array(tokenizer.encode(text), np.int32)


def _lower_priority() -> None:
    """On Linux each thread has one of its own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)

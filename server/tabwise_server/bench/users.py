"""How the people of a load test type: when each keystroke falls, and where.

Inter-key times are log-normal with the mean and deviation of Dhakal, Feit, Kristensson
and Oulasvirta, "Observations on Typing from 136 Million Keystrokes", CHI 2018: 239 and
112 ms. That people type in bursts and read in between is well known; how long these
are in code is not, so the following are our assumptions, chosen to be busy: bursts of
20 keystrokes on average (geometric), pauses of 1 s and an exponential 4 s, one pause in
six with a jump elsewhere in the file, where 25 lines are missing and typed. That is two
keystrokes a second from each, all the time; over a day people type far less.

An editor asks 75 ms after a keystroke, unless the next one came before (Zed's and
copilot.lua's wait), and cancels what it asked when the next keystroke comes.
"""

from __future__ import annotations

import math
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import attrs

KEY_MEAN_S, KEY_DEVIATION_S = 0.239, 0.112
BURST_KEYS = 20
PAUSE_LEAST_S, PAUSE_MORE_S = 1.0, 4.0
JUMP_SHARE = 1 / 6
EDITOR_WAIT_S = 0.075
FILE_LINES = 120  # at least
PASSAGE_LINES = 25  # what is missing where one types

_VARIANCE = math.log(1 + (KEY_DEVIATION_S / KEY_MEAN_S) ** 2)


@attrs.frozen
class Ask:
    """An editor's request. at: seconds from the start. What stands before `cursor` has
    been typed; what stands between it and `after` is still missing in the file."""

    at: float
    cursor: int
    after: int


def asks(text: str, seconds: float, rng: random.Random) -> Iterator[Ask]:
    """When one user's editor asks, and where, for so many seconds; in a burst too, time
    is up for everybody at once, so that the load is the same until then."""
    now = rng.uniform(0, KEY_MEAN_S * BURST_KEYS + PAUSE_LEAST_S + PAUSE_MORE_S)
    cursor, after = _passage(text, rng)
    while now < seconds:
        for _ in range(_burst(rng)):
            if now >= seconds:
                return
            gap = key_gap(rng)
            cursor = _next_key(text, cursor)
            if cursor >= after:
                cursor, after = _passage(text, rng)
            if min(gap, seconds - now) > EDITOR_WAIT_S:
                yield Ask(now + EDITOR_WAIT_S, cursor, after)
            now += gap
        now += PAUSE_LEAST_S + rng.expovariate(1 / PAUSE_MORE_S)
        if rng.random() < JUMP_SHARE:
            cursor, after = _passage(text, rng)


def key_gap(rng: random.Random) -> float:
    """Seconds from one keystroke to the next within a burst."""
    mean = math.log(KEY_MEAN_S) - _VARIANCE / 2
    return rng.lognormvariate(mean, math.sqrt(_VARIANCE))


def sources(count: int) -> list[str]:
    """A file for each of `count` users: those of Python's own library, long enough;
    more users than files begin with them again, from another line on."""
    folder = Path(sysconfig.get_path("stdlib"))
    found: list[str] = []
    for file in sorted(folder.glob("*.py")):
        text = file.read_text(encoding="utf-8", errors="replace")
        if text.count("\n") >= FILE_LINES:
            found.append(text)
    return [_rotated(found[n % len(found)], n // len(found)) for n in range(count)]


def _rotated(text: str, times: int) -> str:
    """The file without its first lines: another file to any prefix cache."""
    lines = text.splitlines(keepends=True)
    return "".join(lines[min(times * 7, len(lines) // 2) :])


def _burst(rng: random.Random) -> int:
    """Keystrokes until the next pause, geometric."""
    return 1 + int(math.log(1 - rng.random()) / math.log(1 - 1 / BURST_KEYS))


def _passage(text: str, rng: random.Random) -> tuple[int, int]:
    """Beginning and end of some lines in the file's second half, where there is
    context: what is typed next. The last one's line break is there already, so that no
    code stands to the right of the cursor."""
    start = rng.randrange(len(text) // 2, len(text) * 9 // 10)
    start = text.rfind("\n", 0, start) + 1
    end = start
    for _ in range(PASSAGE_LINES):
        end = text.find("\n", end) + 1 or len(text)
    return start, end - text.endswith("\n", start, end)


def _next_key(text: str, cursor: int) -> int:
    """The cursor after the next character of the file; an editor writes indentation
    by itself."""
    cursor += 1
    if text[cursor - 1] == "\n":
        while cursor < len(text) and text[cursor] in " \t":
            cursor += 1
    return cursor

"""What became of every request of a fault run, and what that must be."""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Literal

import attrs

from tabwise_server.bench.faults.line import NoAnswer, NotOneAnswer, StreamFailed

Kind = Literal["plain", "streamed", "slow", "left", "malformed", "oversize"]
WELL_FORMED: tuple[Kind, ...] = ("plain", "streamed")
SUCCEEDING = 0.999  # of the well-formed, within their deadline
SAMPLE = 500  # answers that are asked for again afterwards
MOST_NAMED = 20  # of each kind of fault


@attrs.define
class Question:
    """A request while it is asked. end: its status, and the error's code where there is
    one. right: of one that must be refused, whether it was refused as it must be."""

    kind: Kind
    ledger: Ledger
    path: str
    body: bytes
    end: str = ""
    right: bool = False

    def answer(self, text: str) -> None:
        """Whoever asks the same must be told the same."""
        self.right = True
        self.ledger.answered(self.path, self.body, text)


@attrs.define
class Ledger:
    """One entry a request. wrong: what can never be right, in words."""

    deadline_s: float
    counts: Counter[tuple[Kind, str]] = attrs.Factory(Counter)
    wrong: list[str] = attrs.Factory(list)
    late: Counter[str] = attrs.Factory(Counter)  # of the well-formed: what they got
    sample: list[tuple[str, bytes, str]] = attrs.Factory(list)
    _texts: dict[bytes, bytes] = attrs.Factory(dict)
    _seen: int = 0
    _dice: random.Random = attrs.Factory(lambda: random.Random(5))

    def began(self, kind: Kind) -> None:
        """A request that nobody will wait for."""
        self.counts[kind, "left"] += 1

    @contextlib.contextmanager
    def asked(self, kind: Kind, path: str, body: bytes) -> Iterator[Question]:
        """Enter a request's end, however it ends, exactly once."""
        question = Question(kind, self, path, body)
        began = time.monotonic()
        try:
            yield question
        except (NoAnswer, OSError) as error:
            said = str(error) if isinstance(error, NoAnswer) else type(error).__name__
            self._enter(question, f"no answer: {said}", began)
        except StreamFailed:
            self._enter(question, "a stream with an error", began)
        except (NotOneAnswer, ValueError, KeyError) as error:
            self._accuse(f"{kind}: {error}")
            self._enter(question, "not its answer", began)
        else:
            self._enter(question, question.end, began)

    def answered(self, path: str, body: bytes, text: str) -> None:
        """Keep the answer to compare it: with others to the same, and afterwards."""
        key = hashlib.blake2b(path.encode() + body, digest_size=12).digest()
        value = hashlib.blake2b(text.encode(), digest_size=8).digest()
        if self._texts.setdefault(key, value) != value:
            self._accuse("the same request was answered in two ways")
        self._seen += 1
        if len(self.sample) < SAMPLE:
            self.sample.append((path, body, text))
        elif (place := self._dice.randrange(self._seen)) < SAMPLE:
            self.sample[place] = (path, body, text)

    def _enter(self, question: Question, end: str, began: float) -> None:
        kind, in_time = question.kind, time.monotonic() - began <= self.deadline_s
        good = question.right and (in_time or kind not in WELL_FORMED)
        self.counts[kind, "right" if good else end] += 1
        if kind in WELL_FORMED and not good:
            self.late[end if not question.right else "late"] += 1
        if kind in ("malformed", "oversize") and not good and end in ("200", "500"):
            self._accuse(f"{kind} was answered with {end}")

    def _accuse(self, words: str) -> None:
        if len(self.wrong) < MOST_NAMED:
            self.wrong.append(words)

    def of(self, *kinds: Kind) -> tuple[int, int]:
        """(right, all) of some kinds."""
        found = [(end, n) for (kind, end), n in self.counts.items() if kind in kinds]
        return sum(n for end, n in found if end == "right"), sum(n for _, n in found)

    def faults(self) -> list[str]:
        """Everything that is not as it must be; none if all is well."""
        right, asked = self.of(*WELL_FORMED)
        found = list(self.wrong)
        if asked and right < SUCCEEDING * asked:
            share = f"{right / asked:.5f}"
            found.append(f"{share} of the well-formed succeeded: {dict(self.late)}")
        for (kind, end), count in self.counts.items():
            if kind != "left" and end.startswith("no answer") and count > asked // 1000:
                found.append(f"{count} {kind} requests got {end}")
        return found

    def compare(self, path: str, text: str, quiet: str) -> None:
        """An answer, and what a quiet server says to the same."""
        if quiet != text:
            self._accuse(f"{path} was answered {text[:40]!r}, it is {quiet[:40]!r}")

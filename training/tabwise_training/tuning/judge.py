"""Before and after: exact match on held-out files, bits per byte of general code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.runners.choose import load_runner
from tabwise_training.evaluation.generate import complete_all
from tabwise_training.evaluation.likelihood import likelihood
from tabwise_training.evaluation.metrics import Prediction, Share, exact_share
from tabwise_training.evaluation.positions import Position
from tabwise_training.tuning.repository import Text

STRETCH = 1_600  # characters, which fit a window of 512 tokens


@attrs.frozen(kw_only=True)
class Standing:
    """How a checkpoint does. novel: lines that stand nowhere above in their file.
    unseen: those of them that stand in no tuned file either."""

    lines: Share
    novel: Share
    unseen: Share
    own_bits: float
    general_bits: float

    def to_json(self) -> dict[str, Any]:
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class Exam:
    """What both checkpoints are asked. known: stripped lines of the tuned files."""

    positions: Sequence[Position]
    known: frozenset[str]
    own: Sequence[Text]
    general: Sequence[Text]
    general_bytes: int = 120_000
    slots: int = 8
    threads: int | None = None

    def sit(self, checkpoint: Checkpoint, label: str) -> Standing:
        """The figures of a checkpoint, on the runner that would serve it."""
        runner = load_runner(
            checkpoint,
            threads=self.threads,
            n_slots=self.slots,
            slot_tokens=checkpoint.config.block_size,
        )
        holes = [(p.prefix, p.suffix) for p in self.positions]
        found = complete_all(runner, checkpoint, holes, label=label)
        pairs = [
            (at, Prediction(text=c.text, truth=at.truth))
            for at, c in zip(self.positions, found, strict=True)
        ]
        novel = [(at, p) for at, p in pairs if at.novel]
        unseen = [p for at, p in novel if whole_line(at) not in self.known]
        measure = self._bits(runner, checkpoint)
        return Standing(
            lines=exact_share([p for _, p in pairs]),
            novel=exact_share([p for _, p in novel]),
            unseen=exact_share(unseen),
            own_bits=measure(self.own),
            general_bits=measure(self.general),
        )

    def _bits(self, runner: Any, checkpoint: Checkpoint) -> Any:
        def measure(texts: Sequence[Text]) -> float:
            found = likelihood(
                runner,
                checkpoint.tokenizer,
                stretches(texts, self.general_bytes),
                2 * self.general_bytes,
                checkpoint.remembered,
            )
            return found.bits_per_byte

        return measure


def stretches(texts: Sequence[Text], size: int) -> list[str]:
    """About `size` characters, in stretches from everywhere in the texts, as if they
    stood end to end: a few long files do not stand for all."""
    pieces = [
        text[at : at + STRETCH]
        for _, text in texts
        for at in range(0, len(text), STRETCH)
    ]
    count = min(len(pieces), max(1, size // STRETCH))
    return [pieces[i * len(pieces) // count] for i in range(count)]


def whole_line(position: Position) -> str:
    """The cursor's line, stripped."""
    return (position.prefix.rpartition("\n")[2] + position.truth).strip()


def helps(before: Standing, after: Standing, max_loss: float) -> bool:
    """Whether more novel lines are right, no fewer lines in all, and general code lost
    no more than `max_loss` of its bits per byte."""
    return (
        after.novel.hits > before.novel.hits
        and after.lines.hits >= before.lines.hits
        and after.general_bits <= before.general_bits * (1 + max_loss)
    )


def to_markdown(before: Standing, after: Standing) -> str:
    """A table of both."""
    lines = ["| held-out files | before | after | change |", "|---|---|---|---|"]
    for label, name in (
        ("exact match, all lines", "lines"),
        ("novel lines", "novel"),
        ("novel lines, in no tuned file", "unseen"),
    ):
        a, b = getattr(before, name), getattr(after, name)
        lines.append(f"| {label} | {a} | {b} | {_change(a.value, b.value)} |")
    for label, name in (
        ("bits per byte, own", "own_bits"),
        ("bits per byte, general code", "general_bits"),
    ):
        a, b = getattr(before, name), getattr(after, name)
        lines.append(f"| {label} | {a:.3f} | {b:.3f} | {_change(a, b)} |")
    return "\n".join(lines)


def _change(before: float, after: float) -> str:
    return f"{after / before - 1:+.1%}" if before else "–"

"""From tokenised documents to rows of a training batch, the same for the same seed.

An epoch is a permutation of the documents drawn from (seed, epoch), cut into shards; a
shard is rendered to rows by (seed, epoch, shard) alone, so any process can render any
shard, resuming needs only a place, and the next shards are made while this one trains.

Rows are filled with pieces of documents, each rendered whole inside its row, plain or
as fill-in-the-middle. Every token of every document is used once an epoch. END after
END is padding and does not count in the loss; a document that goes on is never followed
by END.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
from numpy.random import Generator, default_rng

from tabwise_model.fim import render_context, render_psm, render_spm
from tabwise_model.tokenizer import Tokenizer
from tabwise_training.errors import TrainingError
from tabwise_training.loss import IGNORE
from tabwise_training.prepare import check_split, load_tokenizer, read_manifest
from tabwise_training.spans import SpanChooser

Rows = npt.NDArray[np.uint16]
MIN_ROOM = 48  # tokens; less is left over and padded
LAYOUT = 2  # of rows; in 1, plain pieces too left FIM_SLACK free, and END followed
FIM_SLACK = 12  # tokens: sentinels, END, and what cutting adds to the encoding


@attrs.frozen(kw_only=True)
class DataConfig:
    """[data]. Rates are probabilities a piece; sizes are tokens. workers: processes
    that render ahead, each about a million tokens a second."""

    folder: str = "data/prepared"
    seed: int = attrs.field(default=1, validator=attrs.validators.ge(0))
    fim_rate: float = 0.7
    spm_rate: float = 0.5
    empty_suffix_rate: float = 0.15
    context_rate: float = 0.1
    context_tokens: int = attrs.field(default=128, validator=attrs.validators.ge(0))
    shard_tokens: int = attrs.field(default=500_000, validator=attrs.validators.ge(1))
    workers: int = attrs.field(default=1, validator=attrs.validators.ge(1))


class Documents:
    """One split of a prepared corpus: its tokens, and where each document lies."""

    def __init__(self, folder: Path, split: str, tokenizer: Tokenizer) -> None:
        file = _ids_file(folder, split)
        self.tokens = np.memmap(file, dtype=np.uint16, mode="r")
        ends = np.flatnonzero(self.tokens == tokenizer.end) + 1
        if len(ends) == 0 or ends[-1] != len(self.tokens):
            raise TrainingError(f"{file} is truncated: it does not end with END")
        self.starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        self.ends = ends.astype(np.int64)
        self.packages, self.paths = _read_names(folder, split, len(ends))

    def __len__(self) -> int:
        return len(self.starts)

    def document(self, index: int) -> Rows:
        """Ids of one document, without its END."""
        return self.tokens[self.starts[index] : self.ends[index] - 1]

    def shards(self, config: DataConfig, epoch: int) -> list[npt.NDArray[np.int64]]:
        """The epoch's documents in its order, cut into shards of about equal tokens."""
        rng = default_rng([config.seed, epoch])
        order = rng.permutation(len(self))
        sizes = (self.ends - self.starts)[order]
        count = max(1, round(sizes.sum() / config.shard_tokens))
        edges = np.searchsorted(sizes.cumsum(), sizes.sum() / count * np.arange(count))
        return [part for part in np.split(order, edges[1:]) if len(part)]


def _ids_file(folder: Path, split: str) -> Path:
    """A split's ids. Raises TrainingError if there can be none in it."""
    file = folder / f"{split}.bin"
    if not file.is_file():
        raise TrainingError(f"{file} is missing; run `tabwise prepare` first")
    size = file.stat().st_size
    if size == 0 or size % 2:
        what = "odd" if size else "0"
        raise TrainingError(
            f"{file} is truncated: its size is {what}; run `tabwise prepare` again"
        )
    check_split(folder, split)
    return file


def _read_names(folder: Path, split: str, count: int) -> tuple[list[str], list[str]]:
    """Package and path by document; empty for a corpus in the seed's layout."""
    file = folder / f"{split}.docs.jsonl"
    if not file.is_file():
        return [""] * count, [""] * count
    with file.open(encoding="utf-8") as stream:
        found = [json.loads(line) for line in stream]
    if len(found) != count:
        raise TrainingError(
            f"{file} lists {len(found)} documents, {split}.bin has {count}; "
            "run `tabwise prepare` again"
        )
    return [d["package"] for d in found], [d["path"] for d in found]


class Renderer:
    """Renders shards of one split; cheap to make, lives in one process."""

    def __init__(
        self,
        documents: Documents,
        tokenizer: Tokenizer,
        config: DataConfig,
        block: int,
        layout: int = LAYOUT,
    ) -> None:
        self._slack = FIM_SLACK if layout == 1 else 0
        self._documents = documents
        self._tokenizer = tokenizer
        self._config = config
        self._width = block + 1
        self._spans = SpanChooser()

    def shards(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """See `Documents.shards`."""
        return self._documents.shards(self._config, epoch)

    def render(self, epoch: int, shard: int) -> Rows:
        """(rows, block + 1) ids of one shard, in the order they are trained."""
        rng = default_rng([self._config.seed, epoch, shard])
        rows: list[list[int]] = []
        row: list[int] = []
        for index in self.shards(epoch)[shard]:
            document = self._documents.document(index).tolist()
            at = 0
            while at < len(document):
                room = self._width - len(row)
                if room < MIN_ROOM:
                    rows.append(row)
                    row, room = [], self._width
                left = document[at : at + room + 1]
                piece, taken = self._piece(index, left, room, rng)
                row += piece
                at += taken
        if row:
            rows.append(row)
        out = np.full((len(rows), self._width), self._tokenizer.end, np.uint16)
        for i, ids in enumerate(rows):
            out[i, : len(ids)] = ids
        return out[rng.permutation(len(out))]

    def _piece(
        self, index: int, left: list[int], room: int, rng: Generator
    ) -> tuple[list[int], int]:
        """(a piece, plain or in the middle filled, at most `room` ids; tokens taken).

        left: what is left of a document, or more of it than there is room for. A plain
        piece ends with the document, and then END, or else with the room.
        """
        plain, cut = left[: room - self._slack], left[: room - FIM_SLACK]
        fim = rng.random() < self._config.fim_rate
        context = self._context(index, rng)
        made = self._fill_in_the_middle(cut, rng) if fim else None
        if made is not None and len(made) > room:
            made, context = None, []
        taken = len(plain if made is None else cut)
        if made is None:
            ended = len(plain) == len(left)
            made = [*plain, *[self._tokenizer.end] * ended][:room]
        fits = len(context) + len(made) <= room
        return (context + made if fits else made), taken

    def _fill_in_the_middle(self, ids: list[int], rng: Generator) -> list[int] | None:
        t = self._tokenizer
        text = t.decode_bytes(ids).decode("utf-8", errors="ignore")
        span = self._spans.choose(text, rng)
        spm = rng.random() < self._config.spm_rate
        bare = rng.random() < self._config.empty_suffix_rate
        if span is None:
            return None
        start, end = span
        suffix = t.encode(text[end:]) if not bare else []
        if spm:
            # one encoding over prefix and middle: the engine heals the token at the
            # cursor, so the model never sees a seam there
            return [*render_spm(t, t.encode(text[:end]), suffix), t.end]
        prompt = render_psm(t, t.encode(text[:start]), suffix)
        return [*prompt, *t.encode(text[start:end]), t.end]

    def _context(self, index: int, rng: Generator) -> list[int]:
        """Now and then, a stretch of a neighbouring file of the same package."""
        documents, limit = self._documents, self._config.context_tokens
        if rng.random() >= self._config.context_rate:
            return []
        other = index + (1 if rng.random() < 0.5 else -1)
        if not 0 <= other < len(documents):
            return []
        package = documents.packages[index]
        if not package or documents.packages[other] != package:
            return []
        ids = documents.document(other)
        start = int(rng.integers(max(1, len(ids) - limit)))
        text = self._tokenizer.decode(ids[start : start + limit])
        return render_context(self._tokenizer, documents.paths[other], text)


@attrs.frozen(kw_only=True)
class Place:
    """Where in the stream of rows the next batch begins; layout: of that stream."""

    epoch: int = 0
    shard: int = 0
    row: int = 0
    layout: int = LAYOUT


@attrs.frozen(kw_only=True)
class DataOrder:
    """What a place means something in: another of these has other rows there.

    corpus: the SHA-256 of train.bin, or its size where there is no manifest.
    """

    corpus: str
    seed: int
    shard_tokens: int


def data_order(folder: Path, config: DataConfig) -> DataOrder:
    """The order of a prepared corpus's rows."""
    splits = read_manifest(folder).get("splits", {})
    corpus = splits.get("train", {}).get("outputs", {}).get("train.bin")
    if corpus is None:
        corpus = f"{_ids_file(folder, 'train').stat().st_size} bytes"
    return DataOrder(corpus=corpus, seed=config.seed, shard_tokens=config.shard_tokens)


class Batches:
    """An endless stream of global batches of rows, from any place on."""

    def __init__(
        self, folder: Path, config: DataConfig, block: int, place: Place
    ) -> None:
        """folder: the prepared corpus. Starts the processes that render ahead."""
        self.place = place
        self._config = config
        self._documents = Documents(folder, "train", load_tokenizer(folder))
        self._last: tuple[int, int] = (-1, 0)  # an epoch, and its number of shards
        if not 1 <= place.layout <= LAYOUT:
            raise TrainingError(
                f"the run's rows are of layout {place.layout}, but must be of layout "
                f"1..{LAYOUT}; go on with the newer Tabwise that began it"
            )
        if place.shard >= self._count_shards(place.epoch):
            raise TrainingError(
                f"{folder} has no shard {place.shard} to go on from; give the corpus "
                "that the run was begun with, or another run.out"
            )
        self._pool = ProcessPoolExecutor(
            config.workers,
            multiprocessing.get_context("spawn"),
            _start_worker,
            (folder, config, block, place.layout),
        )
        self._ahead: deque[tuple[Place, Future[Rows]]] = deque()
        self._ordered = attrs.evolve(place, row=0)  # what is rendered next
        self._rows = self._load()

    def next(self, rows: int) -> Rows:
        """The next `rows` rows, (rows, block + 1)."""
        parts = []
        while rows:
            left = len(self._rows) - self.place.row
            if left == 0:
                self.place = self._ahead[0][0]
                self._rows = self._load()
                continue
            taken = min(rows, left)
            parts.append(self._rows[self.place.row : self.place.row + taken])
            self.place = attrs.evolve(self.place, row=self.place.row + taken)
            rows -= taken
        return np.concatenate(parts)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _load(self) -> Rows:
        """The oldest shard that was ordered, once as many as there are workers are
        ordered behind it."""
        while len(self._ahead) <= self._config.workers:
            place = self._ordered
            made = self._pool.submit(_render_in_worker, place.epoch, place.shard)
            self._ahead.append((place, made))
            self._ordered = self._after(place)
        return self._ahead.popleft()[1].result()

    def _after(self, place: Place) -> Place:
        if place.shard + 1 < self._count_shards(place.epoch):
            return attrs.evolve(place, shard=place.shard + 1, row=0)
        return attrs.evolve(place, epoch=place.epoch + 1, shard=0, row=0)

    def _count_shards(self, epoch: int) -> int:
        if self._last[0] != epoch:
            self._last = (epoch, len(self._documents.shards(self._config, epoch)))
        return self._last[1]


def plain_rows(
    documents: Documents, tokenizer: Tokenizer, block: int, rows: int
) -> Rows:
    """The first rows of a split for validation: documents end to end, nothing cut."""
    width = block + 1
    count = min(rows, len(documents.tokens) // width)
    return np.array(documents.tokens[: count * width]).reshape(count, width)


def targets_of(rows: Rows, end: int) -> tuple[npt.NDArray[np.int64], ...]:
    """(inputs, targets) of rows (B, T + 1), each (B, T); padding is IGNORE."""
    ids = rows.astype(np.int64)
    inputs, targets = ids[:, :-1], ids[:, 1:].copy()
    targets[(inputs == end) & (targets == end)] = IGNORE
    return inputs, targets


def micro_batches(rows: Rows, size: int) -> Iterator[Rows]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


# A pool's initializer can leave what it made only in a name of its module.
_worker: dict[str, Renderer] = {}


def _start_worker(folder: Path, config: DataConfig, block: int, layout: int) -> None:
    # Ctrl-C reaches the whole group; the run ends this process when it is done
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tokenizer = load_tokenizer(folder)
    documents = Documents(folder, "train", tokenizer)
    _worker["renderer"] = Renderer(documents, tokenizer, config, block, layout)


def _render_in_worker(epoch: int, shard: int) -> Rows:
    return _worker["renderer"].render(epoch, shard)

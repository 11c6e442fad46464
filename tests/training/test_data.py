from pathlib import Path

import attrs
import numpy as np
import pytest
from numpy.random import default_rng

from support.tokenizer import TOKENIZER as T
from tabwise_training.data import (
    FIM_SLACK,
    Batches,
    DataConfig,
    Documents,
    Place,
    Renderer,
    Rows,
    targets_of,
)
from tabwise_training.errors import TrainingError
from tabwise_training.loss import IGNORE
from tabwise_training.spans import SpanChooser

BLOCK = 256
PLAIN = DataConfig(fim_rate=0.0, context_rate=0.0, shard_tokens=20_000)


def make_renderer(prepared: Path, config: DataConfig) -> Renderer:
    return Renderer(Documents(prepared, "train", T), T, config, BLOCK)


def all_rows(renderer: Renderer, epoch: int = 0) -> Rows:
    count = len(renderer.shards(epoch))
    assert count > 1
    return np.concatenate([renderer.render(epoch, shard) for shard in range(count)])


def test_an_epoch_uses_every_token_once(prepared: Path) -> None:
    rows = all_rows(make_renderer(prepared, PLAIN))
    inputs, targets = targets_of(rows, T.end)
    kept = [rows[:, 0], targets[targets != IGNORE]]
    found = np.bincount(np.concatenate(kept), minlength=T.vocab_size)
    tokens = Documents(prepared, "train", T).tokens
    wanted = np.bincount(tokens, minlength=T.vocab_size)
    np.testing.assert_array_equal(found[: T.end], wanted[: T.end])
    assert inputs.shape == targets.shape == (len(rows), BLOCK)


def test_end_follows_nothing_but_a_whole_document(prepared: Path) -> None:
    renderer = make_renderer(prepared, PLAIN)
    _, targets = targets_of(all_rows(renderer), T.end)
    count = len(Documents(prepared, "train", T))
    assert count - 2 <= np.count_nonzero(targets == T.end) <= count


@pytest.mark.parametrize(("layout", "free"), [(1, FIM_SLACK), (2, 0)])
@pytest.mark.parametrize("config", [PLAIN, DataConfig()])
def test_a_piece_that_is_cut_fills_its_room_or_is_filled_in_the_middle(
    config: DataConfig, layout: int, free: int, prepared: Path
) -> None:
    documents = Documents(prepared, "train", T)
    renderer = Renderer(documents, T, config, BLOCK, layout)
    text = documents.document(0).tolist()
    for room in range(50, 250):
        piece, taken = renderer._piece(0, text[: room + 1], room, default_rng(room))
        if piece[-1] != T.end:
            assert (len(piece), taken) == (room - free, room - free)
            assert piece == text[:taken]
        assert len(piece) <= room


def test_rows_of_a_newer_layout_are_refused(prepared: Path) -> None:
    with pytest.raises(TrainingError, match="of layout 3, but must be of layout 1"):
        Batches(prepared, PLAIN, BLOCK, Place(layout=3))


def test_the_same_seed_gives_the_same_rows_and_each_epoch_others(
    prepared: Path,
) -> None:
    config = DataConfig(shard_tokens=20_000)
    one, two = (make_renderer(prepared, config) for _ in range(2))
    np.testing.assert_array_equal(one.render(0, 1), two.render(0, 1))
    assert not np.array_equal(one.render(0, 0)[:5], one.render(1, 0)[:5])


def split_at_sentinels(row: list[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {-1: []}
    current = -1
    for i in row:
        if i in T.sentinels:
            current = i
            found[i] = []
        else:
            found[current].append(i)
    return found


def test_a_piece_cut_for_fim_is_the_same_text_in_either_order(prepared: Path) -> None:
    config = attrs.evolve(PLAIN, fim_rate=1.0, empty_suffix_rate=0.0)
    renderer = make_renderer(prepared, config)
    text = "def add(a, b):\n    total = a + b\n    return total\n"
    orders: set[bool] = set()
    for seed in range(20):
        made = renderer._fill_in_the_middle(T.encode(text), default_rng(seed))
        assert made is not None
        assert made[-1] == T.end
        parts = split_at_sentinels(made)
        orders.add(made[1] == T.fim_suffix)
        joined = parts[T.fim_prefix] + parts[T.fim_middle] + parts[T.fim_suffix]
        assert T.decode(joined) == text
    assert orders == {True, False}


def test_spans_lie_in_the_text_and_cut_words_too() -> None:
    text = "class Thing:\n    def method_name(self):\n        return self.value_of(3)\n"
    chooser, rng = SpanChooser(), default_rng(0)
    spans = [chooser.choose(text, rng) for _ in range(300)]
    assert all(s is not None and 0 <= s[0] <= s[1] <= len(text) for s in spans)
    inside = [s for s in spans if s and text[s[0] - 1 : s[0] + 1].isalpha()]
    to_line_end = [s for s in spans if s and text[s[1] : s[1] + 1] == "\n"]
    assert len(inside) > 20
    assert len(to_line_end) > 100


def test_batches_go_on_from_any_place(prepared: Path) -> None:
    config = DataConfig(shard_tokens=20_000)
    whole = Batches(prepared, config, BLOCK, Place())
    rows = [whole.next(37) for _ in range(8)]
    place = whole.place
    after = whole.next(37)
    whole.close()
    resumed = Batches(prepared, config, BLOCK, place)
    np.testing.assert_array_equal(resumed.next(37), after)
    resumed.close()
    assert {r.shape for r in rows} == {(37, BLOCK + 1)}
    assert place.shard > 0 or place.epoch > 0


def test_any_number_of_workers_gives_the_same_rows(prepared: Path) -> None:
    found = []
    for workers in (1, 3):
        config = DataConfig(shard_tokens=20_000, workers=workers)
        batches = Batches(prepared, config, BLOCK, Place(shard=2, row=5))
        rows = [batches.next(400) for _ in range(2)]
        found.append((np.concatenate(rows), batches.place))
        batches.close()
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert found[0][1].epoch > 0


def test_a_truncated_bin_is_refused(prepared: Path, tmp_path: Path) -> None:
    for name in ("train.bin", "train.docs.jsonl"):
        (tmp_path / name).write_bytes((prepared / name).read_bytes()[:-2])
    with pytest.raises(TrainingError, match=r"train\.bin is truncated"):
        Documents(tmp_path, "train", T)


def test_an_empty_bin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.bin").touch()
    with pytest.raises(TrainingError, match=r"train\.bin is truncated: its size is 0"):
        Documents(tmp_path, "train", T)


def test_a_missing_corpus_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="run `tabwise prepare` first"):
        Documents(tmp_path, "train", T)

"""From settings to what answers."""

from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from support.checkpoints import save_tiny
from tabwise_model.checkpoint import Checkpoint, load_checkpoint
from tabwise_server.errors import CheckpointMissing, SettingsError
from tabwise_server.serving.engine.loading import (
    count_engines,
    keeper_of,
    make_engines,
    shared,
)
from tabwise_server.settings import ServeSettings


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return load_checkpoint(save_tiny(tmp_path / "tiny"))


def test_how_many_processes_compute(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "tabwise_server.serving.engine.loading"
    count = partial(count_engines, checkpoint=checkpoint)
    large = attrs.evolve(
        checkpoint, tensors={"w": checkpoint.tensors["embed.weight"].repeat(100_000)}
    )
    for usable, found in ((1, 0), (2, 2), (3, 3), (64, 4)):
        monkeypatch.setattr(f"{where}.usable_processors", lambda usable=usable: usable)
        assert count(ServeSettings(runner="native")) == found
    assert count(ServeSettings(daemon=True)) == 0
    assert count(ServeSettings(daemon=True, engines=1)) == 1
    assert count(ServeSettings(engines=7)) == 7
    assert count_engines(ServeSettings(runner="native"), large) == 0
    monkeypatch.setattr("sys.platform", "win32")
    assert count(ServeSettings(runner="native")) == 0
    with pytest.raises(SettingsError, match="engines must be 0"):
        count(ServeSettings(engines=1))


def test_memory_and_slots_are_shared_out() -> None:
    one = shared(ServeSettings(slots=9, kv_bytes=1_000), 2)
    assert (one.slots, one.kv_bytes, one.threads) == (5, 500, 2)
    assert shared(ServeSettings(), 1).threads is None
    assert shared(ServeSettings(threads=3), 4).threads == 3


def test_one_persons_daemon_keeps_fewer_slots(checkpoint: Checkpoint) -> None:
    def slots(**options: Any) -> int:
        settings = ServeSettings(threads=1, **options)
        return keeper_of(checkpoint, settings).model.facts.slots

    assert slots(daemon=True) == 64 < slots()
    assert slots(daemon=True, slots=100) == 100


def test_a_missing_checkpoint_starts_no_process() -> None:
    with pytest.raises(CheckpointMissing):
        make_engines(ServeSettings(checkpoint="nowhere", engines=2))

"""Pruning: what is measured, what is cut, and the whole command."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from support.models import LLAMA, SHAPES, checkpoint_of, random_checkpoint
from tabwise_model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tabwise_model.config import Family, ModelConfig
from tabwise_model.runners.protocol import Chunk, Logits
from tabwise_model.runners.torch import TorchRunner
from tabwise_server.cli import main
from tabwise_training import prune as command
from tabwise_training.data import Rows
from tabwise_training.pruning.cut import keep_channels, keep_heads, keep_layers
from tabwise_training.pruning.importance import (
    channel_importance,
    head_importance,
    least_important_layers,
    summed_loss,
)
from tabwise_training.pruning.plan import (
    Plan,
    PruningError,
    choose_channels,
    choose_heads,
    plan_for,
)
from tabwise_training.train import train
from tabwise_training.validation import model_of

# as training rounds the vocabulary up, and with the epsilon of an imported Llama
TRAINED = attrs.evolve(LLAMA, vocab_size=320, norm_eps=1e-6)
THREE_LAYERS = attrs.evolve(LLAMA, n_layer=3)
ROWS: Rows = (
    np.random.default_rng(0).integers(0, LLAMA.vocab_size, (6, 33)).astype(np.uint16)
)
END = LLAMA.vocab_size - 6


def with_zeros(checkpoint: Checkpoint, *places: tuple[str, Any]) -> Checkpoint:
    """A copy in which these parts of tensors are zeros."""
    tensors = dict(checkpoint.tensors)
    for name, index in places:
        tensors[name] = tensors[name].copy()
        tensors[name][index] = 0
    return attrs.evolve(checkpoint, tensors=tensors)


def logits(checkpoint: Checkpoint) -> Logits:
    runner = TorchRunner(checkpoint, n_slots=1, slot_tokens=64, device="cpu")
    return runner.extend_all(Chunk(0, 0, tuple(int(i) for i in ROWS[0]))).copy()


def test_layers_that_do_nothing_go_first() -> None:
    whole = slice(None)
    idle = with_zeros(
        checkpoint_of(THREE_LAYERS),
        ("layers.1.attention.out.weight", whole),
        ("layers.1.mlp.down.weight", whole),
    )
    assert least_important_layers(model_of(idle), ROWS, END, 1) == [1]
    cut = keep_layers(idle, [0, 2])
    assert cut.config.n_layer == 2
    np.testing.assert_allclose(logits(cut), logits(idle), atol=1e-5)


def test_each_further_layer_is_chosen_without_those_that_went() -> None:
    checkpoint = checkpoint_of(THREE_LAYERS)
    first, second = least_important_layers(model_of(checkpoint), ROWS, END, 2)

    def loss_of(kept: list[int]) -> float:
        return summed_loss(model_of(keep_layers(checkpoint, kept)), ROWS, END)

    others = [i for i in range(3) if i != first]
    assert loss_of(others) == min(
        loss_of([i for i in range(3) if i != gone]) for gone in range(3)
    )
    assert loss_of([i for i in others if i != second]) == min(
        loss_of([kept]) for kept in others
    )


def test_a_heads_importance_is_what_its_silence_costs() -> None:
    checkpoint = random_checkpoint("llama")
    second = np.s_[:, 8:16]
    silent = with_zeros(checkpoint, ("layers.1.attention.out.weight", second))
    found = head_importance(model_of(checkpoint), ROWS, END)
    cost = summed_loss(model_of(silent), ROWS, END)
    cost -= summed_loss(model_of(checkpoint), ROWS, END)
    assert found[1, 1] == pytest.approx(cost, rel=1e-3)
    assert head_importance(model_of(silent), ROWS, END)[1, 1] == pytest.approx(0)


@pytest.mark.parametrize(
    "kept", [{0: [1], 1: [2]}, {0: [0, 1]}, {1: [3]}, {0: [0], 1: [3]}]
)
def test_cutting_heads_is_silencing_them(kept: Mapping[int, list[int]]) -> None:
    checkpoint = random_checkpoint("llama")
    gone = sorted(set(range(4)) - {h for heads in kept.values() for h in heads})
    silenced = with_zeros(
        checkpoint,
        *(
            (f"layers.{layer}.attention.out.weight", np.s_[:, 8 * h : 8 * h + 8])
            for layer in range(2)
            for h in gone
        ),
    )
    cut = keep_heads(checkpoint, [kept, kept])
    assert (cut.config.n_kv_head, cut.config.head_size) == (len(kept), 8)
    np.testing.assert_allclose(logits(cut), logits(silenced), atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_channels_that_say_nothing_are_cut_without_a_difference(family: Family) -> None:
    gone = np.array([3, 7, 20])
    idle = with_zeros(
        random_checkpoint(family),
        *((f"layers.{i}.mlp.down.weight", np.s_[:, gone]) for i in range(2)),
    )
    importance = channel_importance(model_of(idle), ROWS, END)
    assert (importance[:, gone] == 0).all()
    assert (importance > 0).sum() == 2 * 45
    plan = plan_for(idle.config, channels=45)
    cut = keep_channels(idle, choose_channels(importance, plan))
    assert cut.config.mlp_hidden == 45
    np.testing.assert_allclose(logits(cut), logits(idle), atol=1e-5)


def test_channels_importance_tells_what_cutting_them_costs() -> None:
    """The third of least importance costs less than the third of most."""
    checkpoint = random_checkpoint("llama")
    importance = channel_importance(model_of(checkpoint), ROWS, END)

    def loss_of(of_worth: np.ndarray) -> float:
        kept = [np.sort(np.argsort(row)[16:]) for row in of_worth]
        return summed_loss(model_of(keep_channels(checkpoint, kept)), ROWS, END)

    assert loss_of(importance) < loss_of(-importance)


IMPORTANCE = np.array([[5.0, 1.0, 2.0, 3.0], [0.0, 9.0, 4.0, 6.0]])


@pytest.mark.parametrize(
    ("heads", "kv_heads", "chosen"),
    [
        (2, 2, [{0: [0], 1: [3]}, {0: [1], 1: [3]}]),
        (2, 1, [{0: [0, 1]}, {1: [2, 3]}]),
        (1, 1, [{0: [0]}, {0: [1]}]),
        (1, None, [{0: [0]}, {0: [1]}]),
        (4, 2, [{0: [0, 1], 1: [2, 3]}, {0: [0, 1], 1: [2, 3]}]),
    ],
)
def test_the_best_heads_of_the_best_groups_stay(
    heads: int, kv_heads: int | None, chosen: list[Mapping[int, list[int]]]
) -> None:
    plan = plan_for(LLAMA, heads=heads, kv_heads=kv_heads, channels=8)
    assert choose_heads(IMPORTANCE, LLAMA, plan) == chosen


@pytest.mark.parametrize(
    ("config", "asked", "message"),
    [
        (LLAMA, {}, "nothing to prune"),
        (LLAMA, {"layers": 2, "heads": 4}, "nothing to prune"),
        (LLAMA, {"layers": 3}, r"--layers must be 1\.\.2, got 3"),
        (LLAMA, {"layers": 0}, r"--layers must be 1\.\.2, got 0"),
        (LLAMA, {"channels": 49}, r"--mlp must be 1\.\.48, got 49"),
        (LLAMA, {"heads": 3}, "--heads 3 must be 1 to 2 times --kv-heads 2"),
        (LLAMA, {"heads": 4, "kv_heads": 1}, "--heads 4 must be 1 to 2 times"),
        (LLAMA, {"kv_heads": 5}, r"--kv-heads must be 1\.\.2, got 5"),
        (SHAPES["gpt2"], {"heads": 2}, "gpt2 keeps all its heads"),
    ],
)
def test_what_cannot_be_pruned_is_refused(
    config: ModelConfig, asked: dict[str, int], message: str
) -> None:
    with pytest.raises(PruningError, match=message):
        plan_for(config, **asked)


def test_a_plan_keeps_what_is_not_named() -> None:
    assert plan_for(LLAMA, layers=1) == Plan(layers=1, heads=4, kv_heads=2, channels=48)


RECIPE = (
    *("--run.steps", "4", "--run.batch_tokens", "128", "--run.eval_every", "4"),
    *("--run.eval_rows", "4", "--run.threads", "1", "--data.shard_tokens", "20000"),
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "whole", checkpoint_of(TRAINED))
    return tmp_path / "whole"


def pruned(saved: Path, prepared: Path, *flags: str) -> int:
    asked = ["prune", str(saved), "--out", str(saved.with_name("less")), *flags]
    data = ("--rows", "4", "--data.folder", str(prepared))
    return main([*asked, *data, *RECIPE])


SMALLER = ("--layers", "1", "--heads", "2", "--mlp", "32")


def test_the_command_cuts_and_recovers(
    saved: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pruned(saved, prepared, *SMALLER) == 0
    found = load_checkpoint(saved.with_name("less"))
    shape = found.config
    assert (shape.n_layer, shape.n_head, shape.n_kv_head) == (1, 2, 2)
    assert (shape.head_size, shape.mlp_hidden, found.bits) == (8, 32, 32)
    assert shape.norm_eps == TRAINED.norm_eps
    record = found.provenance["pruned"]
    assert record["from"] == load_checkpoint(saved).digest
    assert len(record["layers"]) == 1
    said = capsys.readouterr().out
    bits = {
        line.split()[0]: float(line.split()[3])
        for line in said.splitlines()
        if line.startswith(("whole", "cut", "recovered"))
    }
    assert bits.keys() == {"whole", "cut", "recovered"}
    assert bits["recovered"] < bits["cut"]
    assert (saved.with_name("less-recovery") / "loss.png").is_file()


def test_only_cutting_writes_what_was_cut(saved: Path, prepared: Path) -> None:
    assert pruned(saved, prepared, "--mlp", "40", "--no-recovery") == 0
    found = load_checkpoint(saved.with_name("less"))
    whole = load_checkpoint(saved)
    assert found.config.mlp_hidden == 40
    name = "layers.0.attention.q.weight"
    assert (found.tensors[name] == whole.tensors[name]).all()
    assert not saved.with_name("less-recovery").exists()


def test_an_interrupted_recovery_writes_nothing_and_goes_on(
    saved: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(command, "train", partial(train, stop_after_s=1e-9))
        assert pruned(saved, prepared, *SMALLER) == 130
    assert not saved.with_name("less").exists()
    assert pruned(saved, prepared, *SMALLER) == 0
    assert load_checkpoint(saved.with_name("less")).config.n_layer == 1


def test_the_recovery_of_another_model_is_not_taken_for_this_ones(
    saved: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pruned(saved, prepared, *SMALLER) == 0
    save_checkpoint(saved, checkpoint_of(TRAINED, seed=5))
    assert pruned(saved, prepared, *SMALLER, "--force") == 1
    assert "is the recovery of another model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--layers", "9"), "--layers must be 1..2, got 9"),
        ((*SMALLER, "--run.stepz", "3"), "stepz"),
        ((*SMALLER, "--rows", "0"), "--rows must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    saved: Path,
    prepared: Path,
    flags: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["prune", str(saved), "--out", str(saved.with_name("less"))]
    assert main([*asked, "--data.folder", str(prepared), *RECIPE, *flags]) == 1
    assert message in capsys.readouterr().err
    assert [file.name for file in saved.parent.iterdir()] == ["whole"]

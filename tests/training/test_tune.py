import argparse
import inspect
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from support.models import LLAMA
from support.tokenizer import TOKENIZER
from tabwise_model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tabwise_model.copying import Remembered
from tabwise_model.gpt import GPT
from tabwise_model.int4 import Int4Layout
from tabwise_model.occurrences import GAP
from tabwise_model.quantize import quantize_checkpoint
from tabwise_training import tune
from tabwise_training.data import DataConfig
from tabwise_training.destination import DestinationError
from tabwise_training.errors import TrainingError
from tabwise_training.evaluation.metrics import Share
from tabwise_training.evaluation.positions import draw_positions
from tabwise_training.quantize import to_int4
from tabwise_training.tuning import general
from tabwise_training.tuning.general import (
    general_code,
    installed_packages,
    standard_library,
)
from tabwise_training.tuning.judge import STRETCH, Exam, Standing, helps, stretches
from tabwise_training.tuning.repository import (
    Parts,
    added_times,
    read_repository,
    split_repository,
)
from tabwise_training.tuning.rows import endless_rows, plain_rows, take, write_documents
from tabwise_training.tuning.tuner import (
    HALVINGS,
    Judged,
    Judges,
    TuneOptions,
    Tuner,
    rows_bits_per_byte,
    rows_loss,
)

SOURCE = inspect.getsource(json.decoder)
FILES = [(f"module_{i}.py", f"# part {i}\n{SOURCE[:3_000]}") for i in range(20)]


def write(root: Path, files: list[tuple[str, str]]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for path, text in files:
        (root / path).write_text(text)
    return root


def git(root: Path, *arguments: str, day: int = 1) -> None:
    date = f"2024-01-{day:02}T00:00:00Z"
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        cwd=root,
        env={"PATH": "/usr/bin:/bin", "GIT_COMMITTER_DATE": date},
        check=True,
        capture_output=True,
    )


def test_every_file_is_in_one_part_and_the_same_each_time() -> None:
    parts = split_repository(FILES, {})
    assert parts == split_repository(FILES[::-1], {})
    together = [*parts.train, *parts.choose, *parts.held_out]
    assert sorted(together) == sorted(FILES)
    assert len(parts.held_out) == 3
    assert len(parts.choose) == 2


def test_the_newest_commits_files_are_held_out(tmp_path: Path) -> None:
    root = write(tmp_path / "repository", FILES[:16])
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first", day=1)
    write(root, FILES[16:])
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "second", day=2)
    parts = split_repository(read_repository(root), added_times(root))
    assert {path for path, _ in parts.held_out} <= {path for path, _ in FILES[16:]}


def test_files_of_imports_are_not_what_is_measured_by() -> None:
    """However new they are, and however large the others."""
    imports = ("new.py", "import os\nimport sys\n")
    others = [(f"large_{i}.py", SOURCE) for i in range(3)]
    added = {path: 1.0 for path, _ in others} | {"new.py": 2.0}
    parts = split_repository([imports, *others], added)
    assert imports in parts.train or imports in parts.choose
    assert [text for _, text in parts.held_out] == [SOURCE]
    assert draw_positions(parts.held_out, 40, seed=1)


def test_ignored_and_short_files_are_not_learned(tmp_path: Path) -> None:
    root = write(tmp_path / "repository", [*FILES, ("tiny.py", "x = 1\n")])
    (root / ".gitignore").write_text("module_3.py\n")
    git(root, "init", "-q")
    paths = {path for path, _ in read_repository(root)}
    assert paths == {path for path, _ in FILES} - {"module_3.py"}


def test_too_small_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has 2 Python files to learn from, of 2"):
        read_repository(write(tmp_path, FILES[:2]))


def test_the_standard_library_comes_in_three_parts_without_tests() -> None:
    parts = standard_library()
    assert len(parts.train) > len(parts.choose) > 10
    assert len(parts.held_out) > 10
    paths = [path for part in attrs.astuple(parts, recurse=False) for path, _ in part]
    assert len(paths) == len(set(paths))
    assert not [path for path in paths if path.startswith("test/")]


def test_what_is_installed_is_general_code_but_for_what_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("alpha", "beta", "gamma"):
        write(
            tmp_path / name, [("__init__.py", f"# {name}\n{SOURCE[:900]}"), *FILES[:3]]
        )
    write(tmp_path / "alpha" / "tests", FILES[3:5])
    write(tmp_path / "no_package", FILES[5:6])
    found = dict(installed_packages(tmp_path))
    assert found.keys() == {"alpha", "beta", "gamma"}
    assert len(found["alpha"]) == 4
    assert len(dict(installed_packages(tmp_path, most=1))) == 1
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(
        general, "standard_library", lambda: Parts(train=[], choose=[], held_out=[])
    )
    parts = general_code(FILES)
    together = [
        path for part in attrs.astuple(parts, recurse=False) for path, _ in part
    ]
    assert sorted(together) == [f"{n}/__init__.py" for n in ("alpha", "beta", "gamma")]


def test_stretches_come_from_everywhere() -> None:
    texts = [("long.py", "a" * 20 * STRETCH), ("short.py", "b" * 20 * STRETCH)]
    found = stretches(texts, 10 * STRETCH)
    assert [text[0] for text in found] == ["a"] * 5 + ["b"] * 5
    assert {len(text) for text in found} == {STRETCH}
    assert stretches(texts[:1], 10**9) == ["a" * STRETCH] * 20


def standing(novel: int, lines: int, general: float) -> Standing:
    return Standing(
        lines=Share(lines, 100),
        novel=Share(novel, 80),
        unseen=Share(novel, 60),
        own_bits=1.0,
        general_bits=general,
    )


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        (standing(11, 20, 1.01), True),
        (standing(10, 25, 1.0), False),  # no more novel lines
        (standing(11, 19, 1.0), False),  # fewer in all
        (standing(20, 40, 1.03), False),  # forgot general code
    ],
)
def test_it_helps_only_if_nothing_is_lost(after: Standing, wanted: bool) -> None:
    assert helps(standing(10, 20, 1.0), after, 0.02) is wanted


def make_tuner(folder: Path, **options: Any) -> tuple[Tuner, GPT]:
    torch.manual_seed(0)
    model = GPT(LLAMA)
    write_documents(folder, TOKENIZER, FILES[:4])
    rows = endless_rows(folder, TOKENIZER, DataConfig(), LLAMA.block_size)
    settings = TuneOptions(rows=4, **options)
    return Tuner(model, TOKENIZER, rows, rows, settings), model


def test_padding_is_the_only_thing_added_to_plain_rows() -> None:
    rows = plain_rows(TOKENIZER, [("a.py", "x = 1\n" * 30)], 16, 1_000)
    ids = rows.flatten().tolist()
    text = TOKENIZER.encode("x = 1\n" * 30)
    assert ids[: len(text)] == text
    assert set(ids[len(text) :]) == {TOKENIZER.end}


def test_rows_go_on_after_an_epoch(tmp_path: Path) -> None:
    write_documents(tmp_path, TOKENIZER, [("a.py", SOURCE[:400])])
    rows = endless_rows(tmp_path, TOKENIZER, DataConfig(), 64)
    assert take(rows, 50).shape == (50, 65)


def test_the_best_judged_weights_are_kept(tmp_path: Path) -> None:
    tuner, model = make_tuner(tmp_path, max_steps=4, checks=4)
    seen: list[np.ndarray] = []
    own = iter([3.0, 2.0, 1.0, 2.0, 2.0, 1.0])

    def judge() -> float:
        seen.append(model.to_tensors()["embed.weight"].copy())
        return next(own)

    tuner.train(Judges(judge, lambda: 1.0))
    assert tuner.steps == 4
    assert not np.array_equal(seen[0], seen[2])
    np.testing.assert_array_equal(model.to_tensors()["embed.weight"], seen[2])


def test_weights_that_forget_general_code_are_mixed_with_the_first(
    tmp_path: Path,
) -> None:
    tuner, model = make_tuner(tmp_path, max_steps=1, checks=1)
    seen: list[np.ndarray] = []
    # the first weights, all of what was learned, a half of it, and so on
    general = iter([1.0, 1.2, 1.009, 1.007, 1.009, 1.0085, 1.0])
    own = iter([3.0, 1.0, 1.5])

    def judge() -> float:
        seen.append(model.to_tensors()["embed.weight"].copy())
        return next(general)

    before, after = tuner.train(Judges(lambda: next(own), judge))
    assert (before, after) == (Judged(3.0, 1.0), Judged(1.5, 1.0))
    first, tuned, *halves, kept = seen
    assert len(halves) == HALVINGS
    for share, mixed in zip((1 / 2, 1 / 4, 3 / 8, 5 / 16), halves, strict=True):
        np.testing.assert_allclose(
            mixed, (1 - share) * first + share * tuned, rtol=1e-6, atol=1e-7
        )
    np.testing.assert_array_equal(kept, halves[1])


def test_training_learns_the_files(tmp_path: Path) -> None:
    tuner, model = make_tuner(tmp_path, max_steps=30, checks=1, replay_share=0.0)
    rows = plain_rows(TOKENIZER, FILES[:1], LLAMA.block_size, 8)

    def judge() -> float:
        return rows_bits_per_byte(model, TOKENIZER, rows)

    before, after = tuner.train(Judges(judge, lambda: 1.0))
    assert after.own < before.own - 0.1


def test_neither_judges_nor_the_teacher_drop_anything() -> None:
    dropping = GPT(attrs.evolve(LLAMA, dropout=0.5))
    plain = GPT(LLAMA)
    plain.load_tensors(dropping.to_tensors())
    rows = plain_rows(TOKENIZER, FILES[:1], LLAMA.block_size, 2)
    bits = [rows_bits_per_byte(m, TOKENIZER, rows) for m in (dropping, plain)]
    assert bits[0] == bits[1]
    assert dropping.training
    tuner = Tuner(dropping, TOKENIZER, iter(()), iter(()), TuneOptions())
    assert not tuner._first.training


def test_what_is_as_it_was_asks_for_nothing() -> None:
    torch.manual_seed(0)
    first, other = GPT(LLAMA), GPT(LLAMA)
    rows = plain_rows(TOKENIZER, FILES[:1], LLAMA.block_size, 2)
    steepness = {}
    for name, model in (("first", first), ("other", other)):
        loss = rows_loss(model, rows, TOKENIZER.end, torch.float32, first)
        torch.autograd.backward(loss)
        gradient = model.embed.weight.grad
        assert gradient is not None
        steepness[name] = float(gradient.abs().max())
    assert steepness["first"] < 1e-4 * steepness["other"]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., argparse.Namespace]:
    """Arguments of a run of a step on a tiny random model, a little general code."""
    other = Parts(train=FILES[:2], choose=FILES[2:3], held_out=FILES[3:4])
    monkeypatch.setattr(tune, "general_code", lambda own: other)
    model = GPT(attrs.evolve(LLAMA, block_size=160, mlp_hidden=64))
    save_checkpoint(
        tmp_path / "first",
        Checkpoint(
            config=model.config, tokenizer=TOKENIZER, tensors=model.to_tensors()
        ),
    )
    write(tmp_path / "own", FILES)

    def make(*flags: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        tune.configure(parser)
        return parser.parse_args(
            [
                str(tmp_path / "own"),
                *("--checkpoint", str(tmp_path / "first"), "--steps", "1"),
                *("--out", str(tmp_path / "tuned"), "--positions", "4"),
                *("--general-bytes", "2000", *flags),
            ]
        )

    return make


def test_nothing_is_written_where_it_does_not_help(
    command: Callable[..., argparse.Namespace],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tune.run(command("--lr", "1e-9", "--forgetful")) == 0
    assert not (tmp_path / "tuned").exists()
    assert "does not help" in capsys.readouterr().out


def test_forgetful_keeps_nothing_of_what_an_earlier_tuning_stored(
    command: Callable[..., argparse.Namespace], tmp_path: Path
) -> None:
    remember_all(tmp_path / "first")
    assert tune.run(command("--forgetful", "--force")) == 0
    assert load_checkpoint(tmp_path / "tuned").remembered is None


def test_what_is_remembered_helps_a_model_that_learns_nothing(
    command: Callable[..., argparse.Namespace], tmp_path: Path
) -> None:
    assert tune.run(command("--lr", "1e-9", "--positions", "20")) == 0
    remembered = load_checkpoint(tmp_path / "tuned").remembered
    assert remembered is not None
    # what was held out to measure by as well
    tokens = [len(TOKENIZER.encode(text)) for _, text in FILES]
    assert len(remembered.order) == sum(tokens) - len(tokens)


def remember_all(folder: Path) -> None:
    """Leave the checkpoint as an earlier tuning would: with every one of FILES."""
    texts = [TOKENIZER.encode_by_paragraphs(text) for _, text in FILES]
    first = attrs.evolve(load_checkpoint(folder), remembered=Remembered.of(texts))
    save_checkpoint(folder, first)


@pytest.mark.parametrize("again", [False, True])
def test_what_was_held_out_is_not_measured_with(
    command: Callable[..., argparse.Namespace],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    again: bool,
) -> None:
    """Neither in a first tuning nor, after it, again."""
    if again:
        remember_all(tmp_path / "first")
    seen: dict[str, set[str]] = {}
    sit = Exam.sit

    def watched(exam: Exam, checkpoint: Checkpoint, label: str) -> Standing:
        kept = checkpoint.remembered
        seen[label] = set() if kept is None else numbers_in(checkpoint)
        return sit(exam, checkpoint, label)

    monkeypatch.setattr(Exam, "sit", watched)
    tune.run(command("--steps", "0"))
    parts = split_repository(FILES, {})
    tuned = {path for path, _ in (*parts.train, *parts.choose)}
    assert seen == {"before": set(), "after": tuned}


def numbers_in(checkpoint: Checkpoint) -> set[str]:
    """The paths of FILES that a checkpoint remembers, by the comment on top of each."""
    assert checkpoint.remembered is not None
    ids = [i for i in checkpoint.remembered.ids.tolist() if i != GAP]
    text = checkpoint.tokenizer.decode(ids)
    return {f"module_{n}.py" for n in re.findall(r"# part (\d+)\n", text)}


def test_without_a_step_the_weights_stay_as_they_are(
    command: Callable[..., argparse.Namespace], tmp_path: Path
) -> None:
    first = quantize_checkpoint(load_checkpoint(tmp_path / "first"))
    save_checkpoint(tmp_path / "first", first)
    assert tune.run(command("--steps", "0", "--positions", "20")) == 0
    tuned = load_checkpoint(tmp_path / "tuned")
    assert tuned.provenance["tuned"]["tokens"] == 0
    assert tuned.tensors.keys() == first.tensors.keys()
    for name, tensor in first.tensors.items():
        np.testing.assert_array_equal(tuned.tensors[name], tensor)
    assert numbers_in(tuned) == {path for path, _ in FILES}


@pytest.mark.parametrize("bits", [32, 4])
def test_a_forced_checkpoint_can_be_served(
    command: Callable[..., argparse.Namespace], tmp_path: Path, bits: int
) -> None:
    if bits == 4:
        plain = load_checkpoint(tmp_path / "first")
        small = to_int4(plain, Int4Layout(), "rtn", None, 0)
        save_checkpoint(tmp_path / "first", small)
    assert tune.run(command("--force")) == 0
    found = load_checkpoint(tmp_path / "tuned")
    assert found.bits == 8
    first = load_checkpoint(tmp_path / "first")
    assert found.provenance["tuned"]["from"] == first.digest
    assert found.provenance["tuned"]["steps"] == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--minutes", "20"], "at most 15, got 20"),
        (["--replay-share", "1"], "under 1, got 1"),
        (["--steps", "-1"], "--steps must be at least 0, got -1"),
        (["--steps", "0", "--forgetful"], "nothing would be tuned"),
        (["--positions", "0"], "--positions must be at least 1"),
    ],
)
def test_bad_options_are_named(
    command: Callable[..., argparse.Namespace], flags: list[str], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        tune.run(command(*flags))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("own", "own is what is read"),
        (".", "holds .*own, which is read"),
        ("first", "first is what is read"),
        ("home", "home holds something that is no model"),
        ("own/module_1.py/x", "module_1.py is a file; --out cannot lie below it"),
    ],
)
def test_nothing_of_the_users_is_replaced(
    command: Callable[..., argparse.Namespace],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    out: str,
    message: str,
) -> None:
    """It is said before any work, whatever --force says."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").touch()
    monkeypatch.setattr(tune, "load_checkpoint", None)
    with pytest.raises(DestinationError, match=message):
        tune.run(command("--out", str(tmp_path / out), "--force"))


def test_another_model_is_replaced_only_by_force(
    command: Callable[..., argparse.Namespace], tmp_path: Path
) -> None:
    (tmp_path / "tuned").mkdir()
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / "tuned" / name).touch()
    with pytest.raises(DestinationError, match="--force replaces it"):
        tune.run(command())

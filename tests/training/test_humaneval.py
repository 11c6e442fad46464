"""Infilling tasks: read from their file, answers run in a limited child."""

import gzip
import json
from pathlib import Path

import attrs
import pytest

from tabwise_training.errors import TrainingError
from tabwise_training.evaluation import humaneval
from tabwise_training.evaluation.humaneval import Task, pass_at_1, passes, read_tasks

TASK = Task(
    name="double/L0",
    prefix="def double(n):\n",
    suffix="    return m\n",
    truth="    m = 2 * n\n",
    test="def check(f):\n    assert f(3) == 6\n",
    entry_point="double",
)


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        (TASK.truth, True),
        ("    print = None\n    m = n + n\n", True),
        ("    m = n\n", False),
        ("    m =\n", False),
        ("    m = '\0'\n", False),
        ("    exit(0)\n", False),
        ("    import os; os._exit(0)\n", False),
        ("    m = bytearray(2 << 30) and 2 * n\n", False),
    ],
)
def test_an_answer_passes_if_the_tests_were_run_to_their_end(
    answer: str, passed: bool
) -> None:
    assert passes(TASK, answer) is passed


def test_an_answer_that_does_not_end_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(humaneval, "TIMEOUT_S", 1)
    share = pass_at_1([TASK, TASK], ["    while True: pass\n", TASK.truth])
    assert (share.hits, share.n) == (1, 2)


@pytest.mark.parametrize("packed", [False, True])
def test_tasks_are_read_from_their_file(tmp_path: Path, packed: bool) -> None:
    known = {"name": "task_id", "prefix": "prompt", "truth": "canonical_solution"}
    row = {known.get(key, key): value for key, value in attrs.asdict(TASK).items()}
    text = (json.dumps(row) + "\n").encode()
    file = tmp_path / ("tasks.jsonl.gz" if packed else "tasks.jsonl")
    file.write_bytes(gzip.compress(text) if packed else text)
    assert read_tasks(file) == [TASK]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tasks.jsonl", b"{"),
        ("tasks.jsonl", b'{"task_id": "a"}'),
        ("tasks.jsonl", b"3"),
        ("tasks.jsonl.gz", b"{}"),
        ("tasks.jsonl.gz", gzip.compress(b"{}\n" * 99)[:-9]),
    ],
)
def test_a_file_of_something_else_is_an_error(
    tmp_path: Path, name: str, content: bytes
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(TrainingError, match="holds no infilling tasks"):
        read_tasks(file)

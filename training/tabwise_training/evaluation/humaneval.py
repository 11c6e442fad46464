"""HumanEval-Infilling: fill a hole in a function, run its tests.

Source: arXiv 2207.14255; the tasks' files are given by the user, never trained on.
"""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from tabwise_training.errors import TrainingError
from tabwise_training.evaluation.metrics import Share

TIMEOUT_S = 10
MEMORY_BYTES = 1 << 30
FINISHED = 77  # the exit status of a program whose tests have all been passed


@attrs.frozen(kw_only=True)
class Task:
    """One hole: `prefix` + answer + `suffix` is a program that `test` checks."""

    name: str
    prefix: str
    suffix: str
    truth: str
    test: str
    entry_point: str


def read_tasks(file: Path) -> list[Task]:
    """The tasks of a .jsonl or .jsonl.gz. Raises TrainingError if it is not one."""
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8") as stream:
            found = [json.loads(line) for line in stream]
        return [
            Task(
                name=d["task_id"],
                prefix=d["prompt"],
                suffix=d["suffix"],
                truth=d["canonical_solution"],
                test=d["test"],
                entry_point=d["entry_point"],
            )
            for d in found
        ]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{file} holds no infilling tasks: {error!r}") from error


def pass_at_1(tasks: Sequence[Task], answers: Sequence[str], workers: int = 2) -> Share:
    """How many answers pass their task's tests; one answer a task."""
    with ThreadPoolExecutor(workers) as pool:
        passed = list(pool.map(passes, tasks, answers))
    return Share(sum(passed), len(passed))


def passes(task: Task, answer: str) -> bool:
    """Whether the program with `answer` in its hole passes, in a child process that is
    held to its seconds, its memory, an empty folder and no environment. One that ends
    before its tests are through, even well, does not pass."""
    end = f'__import__("os")._exit({FINISHED})'
    call = f"\n{task.test}\ncheck({task.entry_point})\n{end}\n"
    program = task.prefix + answer + task.suffix + call
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", program],
                cwd=folder,
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
                preexec_fn=_limit,
            )
        except (subprocess.TimeoutExpired, ValueError):
            # ValueError: a NUL in the program
            return False
    return done.returncode == FINISHED


def _limit() -> None:
    """In the child: bounds on seconds, memory, files and processes."""
    resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT_S, TIMEOUT_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # root's are not bounded

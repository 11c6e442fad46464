"""Native runners for tests: random models, and the C++ drivers beside the tests."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.models import LLAMA
from tabwise_model.checkpoint import Checkpoint
from tabwise_model.config import ModelConfig
from tabwise_model.runners.build import (
    SOURCES,
    BuildError,
    compile_objects,
    find_compiler,
    run,
)
from tabwise_model.runners.native import NativeRunner
from tabwise_model.runners.native_bench import random_checkpoint
from tabwise_model.runners.native_library import load_library, usable_paths

DRIVERS = Path(__file__).parents[1] / "model" / "native"

# Sizes that are no multiples of anything, and five query heads to a key head.
ODD = ModelConfig(
    vocab_size=1001,
    block_size=512,
    n_layer=2,
    n_head=10,
    n_kv_head=2,
    n_embd=180,
    mlp_hidden=300,
)


def need_library() -> None:
    """Skip where there can be no library; an unfit one fails."""
    try:
        find_compiler()
    except BuildError as error:
        pytest.skip(str(error))
    load_library()


def paths() -> list[str]:
    return usable_paths(load_library())


def odd_checkpoint(seed: int = 0) -> Checkpoint:
    return random_checkpoint(ODD, seed)


def make_runner(checkpoint: Checkpoint | None = None, **options: Any) -> NativeRunner:
    options.setdefault("n_slots", 4)
    options.setdefault("slot_tokens", 320)
    return NativeRunner(checkpoint or odd_checkpoint(), **options)


def ids(count: int, seed: int = 1, vocab: int = LLAMA.vocab_size) -> tuple[int, ...]:
    rng = np.random.default_rng(seed)
    return tuple(int(i) for i in rng.integers(0, vocab, count))


def build_driver(
    folder: Path,
    compiler: Sequence[str],
    *,
    machine: str | None = None,
) -> Path:
    """The executable of tests/model/native/driver.cpp, the sources compiled into it."""
    objects = compile_objects(folder, compiler, machine)
    return link_driver(folder, compiler, objects)


def link_driver(
    folder: Path, compiler: Sequence[str], objects: Sequence[str | Path]
) -> Path:
    program = folder / "driver"
    flags = ["-std=c++17", "-pthread", f"-I{SOURCES}"]
    run([*compiler, *flags, DRIVERS / "driver.cpp", *objects, "-o", program])
    return program


def run_driver(*command: str | Path, timeout: float = 100) -> str:
    """What the program printed. Fails with its errors if it failed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

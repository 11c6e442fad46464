"""Helper threads: they help, sleep, rest on a busy machine, and end with the runner."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from support.native import (
    DRIVERS,
    ODD,
    build_driver,
    ids,
    make_runner,
    need_library,
    odd_checkpoint,
    run_driver,
)
from tabwise_model.runners.build import SOURCES, BuildError, find_compiler, run
from tabwise_model.runners.protocol import Chunk

CHECKPOINT = odd_checkpoint()
TOKENS = ids(64, vocab=ODD.vocab_size)
TASKS = Path("/proc/self/task")
needs_proc = pytest.mark.skipif(not TASKS.is_dir(), reason="needs Linux' /proc")


@pytest.fixture(autouse=True)
def library() -> None:
    need_library()


@pytest.fixture(scope="module", params=[(), ("-fsanitize=thread", "-g")])
def pool_driver(request: pytest.FixtureRequest, tmp_path_factory: object) -> Path:
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    program = tmp_path_factory.mktemp("pool") / "pool_driver"
    source = [DRIVERS / "pool_driver.cpp", SOURCES / "pool.cpp"]
    flags = ["-O2", "-std=c++17", "-pthread", f"-I{SOURCES}", *request.param]
    try:
        run([*find_compiler(), *flags, *source, "-o", program])
    except BuildError as error:
        if not request.param:
            raise
        pytest.skip(f"no thread sanitiser: {error}")
    return program


def test_the_pool_does_each_piece_once_and_rests_a_stalled_helper(
    pool_driver: Path,
) -> None:
    run_driver(pool_driver, "5000")


@needs_proc
def test_one_thread_starts_no_helper_and_closing_ends_them() -> None:
    before = len(os.listdir(TASKS))
    alone = make_runner(CHECKPOINT, threads=1)
    assert len(os.listdir(TASKS)) == before
    three = make_runner(CHECKPOINT, threads=3)
    assert len(os.listdir(TASKS)) == before + 2
    three.close()
    alone.close()
    assert len(os.listdir(TASKS)) == before


def test_a_runner_per_thread_gives_what_each_gives_alone() -> None:
    expected = make_runner(CHECKPOINT, threads=1).extend_all(Chunk(0, 0, TOKENS))

    def use_one(_: int) -> bool:
        runner = make_runner(CHECKPOINT, threads=2)
        found = [runner.extend_all(Chunk(0, 0, TOKENS)) for _ in range(20)]
        return all(np.array_equal(logits, expected) for logits in found)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(use_one, range(8)))


def test_an_idle_runner_uses_no_processor_time() -> None:
    runner = make_runner(CHECKPOINT, threads=4)
    runner.extend([Chunk(0, 0, TOKENS)])
    start = time.process_time()
    time.sleep(0.5)  # idleness is what is measured
    assert time.process_time() - start < 0.02
    assert runner.counters()[0] > 0


@needs_proc
def test_closed_runners_give_their_memory_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    def use_one() -> None:
        runner = make_runner(CHECKPOINT, n_slots=8, slot_tokens=4096)
        for slot in range(8):
            runner.extend([Chunk(slot, 0, TOKENS)])
        runner.close()

    for _ in range(5):
        use_one()
    before = resident()
    for _ in range(40):
        use_one()
    assert (resident() - before) * os.sysconf("SC_PAGESIZE") < 4 << 20


@pytest.mark.slow
def test_a_hundred_thousand_steps_with_random_pauses_end() -> None:
    """A lost wake-up would hang, a wrong one would change the logits."""
    runner = make_runner(CHECKPOINT, threads=2)
    expected = runner.extend([Chunk(0, 0, TOKENS[:8])]).copy()
    pauses = np.random.default_rng(0).exponential(60e-6, 100_000)
    pauses[np.random.default_rng(1).random(100_000) < 0.7] = 0
    for step, pause in enumerate(pauses):
        if pause:
            time.sleep(pause)
        logits = runner.extend([Chunk(0, 0, TOKENS[:8])])
        if step % 1000 == 0:
            np.testing.assert_array_equal(logits, expected)
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.slow
@pytest.mark.parametrize("sanitiser", ["address,undefined", "thread"])
@pytest.mark.timeout(600)
def test_the_step_is_clean_under_the_sanitisers(sanitiser: str, tmp_path: Path) -> None:
    options = [f"-fsanitize={sanitiser}", "-fno-sanitize-recover=all", "-g", "-O0"]
    try:
        program = build_driver(tmp_path, [*find_compiler(), *options])
    except BuildError as error:
        pytest.skip(f"no sanitiser: {error}")
    hashes = {tuple(line.split()[2:]) for line in run_driver(program).splitlines()}
    assert len(hashes) == 1

"""Time the native runner: `python -m tabwise_model.runners.native_bench`.

Random INT8 weights of stated shapes, spread as a trained model's are, beside the time
to read them once and, with `--int4` and `--torch`, INT4 weights and the torch runner.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np

from tabwise_model.checkpoint import Checkpoint, expected_shapes, quantized_names
from tabwise_model.config import ModelConfig
from tabwise_model.int4 import Int4Layout, Int4Matrix
from tabwise_model.quantize import dequantize_checkpoint, with_int4
from tabwise_model.runners.native import NativeRunner
from tabwise_model.runners.protocol import Chunk, Runner
from tabwise_model.tokenizer import Tokenizer

SHAPES: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "S1": ModelConfig(
            vocab_size=16_384,
            block_size=2048,
            n_layer=12,
            n_head=8,
            n_kv_head=2,
            n_embd=512,
            mlp_hidden=1376,
        ),
        "S2": ModelConfig(
            vocab_size=16_384,
            block_size=2048,
            n_layer=10,
            n_head=6,
            n_kv_head=2,
            n_embd=384,
            mlp_hidden=1024,
        ),
        "7M": ModelConfig(
            vocab_size=8_192,
            block_size=1024,
            n_layer=6,
            n_head=4,
            n_kv_head=2,
            n_embd=256,
            mlp_hidden=704,
        ),
    }
)
SPREAD = 40  # the standard deviation of the shipped model's weights
SLOTS = 16
CONTEXT = 512


@attrs.frozen
class Timing:
    """Seconds: the middle one, and the one that 95 % stay under."""

    median: float
    p95: float

    def __str__(self) -> str:
        return f"{self.median * 1e3:8.2f} (p95 {self.p95 * 1e3:.2f})"


def random_checkpoint(config: ModelConfig, seed: int = 0) -> Checkpoint:
    """An INT8 checkpoint of this shape, its weights normally distributed."""
    rng = np.random.default_rng(seed)
    quantized = set(quantized_names(config))
    tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
    for name, shape in expected_shapes(config).items():
        matrix = name.removesuffix(".weight")
        if matrix in quantized:
            drawn = rng.standard_normal(shape, np.float32) * SPREAD
            tensors[name] = np.clip(np.rint(drawn), -127, 127).astype(np.int8)
            tensors[f"{matrix}.scale"] = np.full(shape[0], 5e-4, np.float32)
        else:
            tensors[name] = np.ones(shape, np.float32)
    tokenizer = Tokenizer({bytes([byte]): byte for byte in range(256)})
    return Checkpoint(config=config, tokenizer=tokenizer, tensors=tensors, bits=8)


def random_int4(config: ModelConfig, seed: int = 0) -> Checkpoint:
    """The same, every matrix in INT4."""
    rng = np.random.default_rng(seed)
    plain, layout = random_checkpoint(config), Int4Layout(group=32, embed_bits=4)
    matrices = {}
    for name in quantized_names(config):
        rows, inputs = plain.tensors[f"{name}.weight"].shape
        q = rng.integers(-8, 8, (rows, inputs), np.int8)
        steps = rng.integers(1, 16, (rows, inputs // layout.group), np.uint8)
        matrices[name] = Int4Matrix(q, steps, np.full(rows, 5e-4, np.float32))
    return with_int4(dequantize_checkpoint(plain), layout, matrices)


def measure(run: Callable[[], object], seconds: float) -> Timing:
    """Run again and again for about `seconds`, after three runs that do not count."""
    for _ in range(3):
        run()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 3:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return Timing(float(np.median(taken)), float(np.quantile(taken, 0.95)))


def scenarios(
    runner: Runner, context: int = CONTEXT
) -> dict[str, Callable[[], object]]:
    """What is measured, by name: decoding after `context` tokens, and prefill."""
    ids = [int(i) for i in np.random.default_rng(0).integers(0, 256, context)]
    for slot in range(SLOTS):
        runner.extend([Chunk(slot, 0, tuple(ids))])
    cases: dict[str, list[Chunk]] = {
        "decode 1": [Chunk(0, context - 1, (7,))],
        "verify 4": [Chunk(0, context - 4, (7,) * 4)],
        "decode 4": [Chunk(slot, context - 1, (7,)) for slot in range(4)],
        "decode 16": [Chunk(slot, context - 1, (7,)) for slot in range(16)],
        "prefill 64": [Chunk(0, 0, tuple(ids[:64]))],
        "prefill 512": [Chunk(0, 0, tuple(ids[:512]))],
    }
    return {name: partial(runner.extend, chunks) for name, chunks in cases.items()}


def reading_time(count: int, threads: int, seconds: float) -> Timing:
    """Reading `count` bytes once, shared among threads: what no decode step beats."""
    parts = np.array_split(np.ones(count // 8, np.int64), threads)
    if threads == 1:
        return measure(lambda: parts[0].max(), seconds)
    with ThreadPoolExecutor(threads) as pool:
        return measure(lambda: list(pool.map(np.max, parts)), seconds)


def measure_shape(name: str, arguments: argparse.Namespace) -> None:
    """Print one table: a line a scenario, a column a runner."""
    checkpoint = random_checkpoint(SHAPES[name])
    weights = sum(t.nbytes for t in checkpoint.tensors.values() if t.dtype == np.int8)
    print(f"\n{name}: {weights / 1e6:.1f} MB of weights, context {CONTEXT}; ms")
    for threads in arguments.threads:
        timing = reading_time(weights, threads, arguments.seconds)
        print(f"  {'reading once':14} {threads} threads {timing}")
    for label, runner in runners(name, checkpoint, arguments):
        for scenario, run in scenarios(runner).items():
            if arguments.only in scenario:
                print(f"  {scenario:14} {label:24} {measure(run, arguments.seconds)}")


def runners(
    name: str, checkpoint: Checkpoint, arguments: argparse.Namespace
) -> list[tuple[str, Runner]]:
    """Every runner that was asked for, with its label."""
    room: dict[str, Any] = {"n_slots": SLOTS, "slot_tokens": 2 * CONTEXT}
    made: list[tuple[str, Runner]] = []
    forms = {"": checkpoint}
    if arguments.int4:
        forms["INT4 "] = random_int4(SHAPES[name])
    for form, weights in forms.items():
        for path in arguments.path or [None]:
            for threads in arguments.threads:
                runner = NativeRunner(weights, threads=threads, path=path, **room)
                made.append((f"{form}{runner.path} {threads} threads", runner))
    if arguments.torch:
        from tabwise_model.runners.torch import TorchRunner

        for threads in arguments.threads:
            made.append(
                (
                    f"torch {threads} threads",
                    TorchRunner(checkpoint, device="cpu", threads=threads, **room),
                )
            )
    return made


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", action="append", choices=sorted(SHAPES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--path", action="append", help="an instruction set by name")
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure")
    parser.add_argument("--int4", action="store_true", help="INT4 weights too")
    parser.add_argument("--torch", action="store_true", help="the torch runner too")
    arguments = parser.parse_args(argv)
    print(f"{processor()}, {os.cpu_count()} processors")
    for name in arguments.shape or ["7M", "S1"]:
        measure_shape(name, arguments)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

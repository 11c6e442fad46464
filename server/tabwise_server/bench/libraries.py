"""Other inference libraries on our checkpoint, each in a process of its own.

Run as `python -m tabwise_server.bench.libraries NAME MODEL THREADS` with prompts as
JSON lists of token ids on its input, one a line; it prints a line of JSON for each:
what prefill took, and each further token. Greedy, one sequence, nothing cached between
prompts, as a user of the library would call it.
"""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np

from tabwise_server.errors import SettingsError

NEW_TOKENS = 32
LIMIT_S = 600.0

# given ids and how many to add; returns when they are there
Generate = Callable[[list[int], int], object]


@attrs.frozen
class Library:
    """prepare: writes the library's own form of a checkpoint into a folder and returns
    where it is. open: loads that, at so many threads. says: what the form is."""

    prepare: Callable[[str, Path], Path]
    open: Callable[[Path, int], Generate]
    says: str


def measure_library(
    name: str,
    checkpoint: str,
    scratch: Path,
    threads: int,
    prompts: Sequence[list[int]],
) -> tuple[list[float], list[float]]:
    """Milliseconds of prefill, and of each new token, by prompt; the first prompt warms
    up and is left out. Raises SettingsError."""
    model = LIBRARIES[name].prepare(checkpoint, scratch)
    command = [sys.executable, "-P", "-m", __name__, name, str(model), str(threads)]
    text = "\n".join(json.dumps(prompt) for prompt in prompts)
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise SettingsError(f"{name}: {' '.join(said)}")
    rows = [json.loads(line) for line in done.stdout.splitlines()][1:]
    return [row["prefill_ms"] for row in rows], [row["token_ms"] for row in rows]


def serve(name: str, model: Path, threads: int) -> None:
    """Time every prompt on stdin; see the module's docstring."""
    generate = LIBRARIES[name].open(model, threads)
    for line in sys.stdin:
        prompt = json.loads(line)
        one = _milliseconds(lambda: generate(prompt, 1))  # noqa: B023
        more = _milliseconds(lambda: generate(prompt, 1 + NEW_TOKENS))  # noqa: B023
        row = {"prefill_ms": one, "token_ms": (more - one) / NEW_TOKENS}
        print(json.dumps(row), flush=True)


def _milliseconds(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def _python(*arguments: str) -> None:
    """Run Python on these, in a process of its own. Raises SettingsError with the last
    thing that it said."""
    command = [sys.executable, "-P", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise SettingsError(f"{arguments[1].split(';')[0]}: {' '.join(said)}")


def _export(checkpoint: str, form: str, out: Path) -> Path:
    command = ["-m", "tabwise_server", "export", checkpoint]
    _python(*command, "--format", form, "--out", str(out))
    return out


def _prepare_ctranslate2(checkpoint: str, scratch: Path) -> Path:
    source, out = _export(checkpoint, "hf", scratch / "hf"), scratch / "ctranslate2"
    code = (
        "import sys; from ctranslate2.converters import TransformersConverter as C; "
        "C(sys.argv[1]).convert(sys.argv[2], quantization='int8', force=True)"
    )
    _python("-c", code, str(source), str(out))
    return out


def _open_ctranslate2(model: Path, threads: int) -> Generate:
    ctranslate2 = importlib.import_module("ctranslate2")
    pieces = json.loads((model / "vocabulary.json").read_text(encoding="utf-8"))
    generator = ctranslate2.Generator(
        str(model), compute_type="int8", intra_threads=threads, inter_threads=1
    )

    def generate(ids: list[int], count: int) -> object:
        return generator.generate_batch(
            [[pieces[i] for i in ids]],
            max_length=count,
            min_length=count,
            sampling_topk=1,
            include_prompt_in_result=False,
            end_token=[],
        )

    return generate


def _prepare_onnx(checkpoint: str, scratch: Path) -> Path:
    return _export(checkpoint, "onnx", scratch / "onnx") / "model.onnx"


def _prepare_onnxruntime(checkpoint: str, scratch: Path) -> Path:
    """Its matrices in INT8 by onnxruntime's own tool."""
    out = scratch / "int8.onnx"
    code = (
        "import sys; from onnxruntime.quantization import quantize_dynamic as q; "
        "q(sys.argv[1], sys.argv[2], per_channel=True)"
    )
    _python("-c", code, str(_prepare_onnx(checkpoint, scratch)), str(out))
    return out


def _open_onnxruntime(model: Path, threads: int) -> Generate:
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        str(model), options, providers=["CPUExecutionProvider"]
    )
    past = [one for one in session.get_inputs() if one.name.startswith(PAST)]
    outputs = [one.name for one in session.get_outputs()]
    empty = {one.name: np.zeros(_empty(one.shape), np.float32) for one in past}
    to_value = onnxruntime.OrtValue.ortvalue_from_numpy

    def generate(ids: list[int], count: int) -> object:
        kept = {name: to_value(array) for name, array in empty.items()}
        new, seen = ids, 0
        for _ in range(count):
            feeds = {k: to_value(v) for k, v in _step_inputs(new, seen).items()}
            logits, *present = session.run_with_ort_values(outputs, {**feeds, **kept})
            seen += len(new)
            new = [int(logits.numpy()[0, -1].argmax())]
            kept = dict(zip(kept, present, strict=True))
        return new

    return generate


def _open_openvino(model: Path, threads: int) -> Generate:
    """Keys and values stay inside, as its documentation advises."""
    openvino = importlib.import_module("openvino")
    passes = importlib.import_module("openvino._offline_transformations")
    core = openvino.Core()
    graph = core.read_model(str(model))
    names = [port.get_any_name() for port in graph.inputs]
    pairs = {n: n.replace(PAST, "present") for n in names if n.startswith(PAST)}
    for port in graph.inputs:
        if port.get_any_name() in pairs:
            shape = port.get_partial_shape()
            shape[0] = 1
            graph.reshape({port.get_any_name(): shape})
    passes.apply_make_stateful_transformation(graph, pairs)
    compiled = core.compile_model(
        graph, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    )
    request = compiled.create_infer_request()

    def generate(ids: list[int], count: int) -> object:
        request.reset_state()
        new, seen = ids, 0
        for _ in range(count):
            found = request.infer(_step_inputs(new, seen))
            seen += len(new)
            new = [int(found["logits"][0, -1].argmax())]
        return new

    return generate


def _step_inputs(new: list[int], seen: int) -> dict[str, Any]:
    """What an exported graph takes besides keys and values, for one sequence."""
    count = len(new)
    return {
        "input_ids": np.array([new], np.int64),
        "position_ids": np.arange(seen, seen + count, dtype=np.int64)[None],
        "attention_mask": np.ones((1, seen + count), np.int64),
    }


def _empty(shape: Sequence[int | str]) -> list[int]:
    """(batch, KV heads, past, head size) with one sequence and nothing kept."""
    heads, size = shape[1], shape[3]
    assert isinstance(heads, int)
    assert isinstance(size, int)
    return [1, heads, 0, size]


PAST = "past_key_values"
LIBRARIES: Mapping[str, Library] = MappingProxyType(
    {
        "ctranslate2": Library(_prepare_ctranslate2, _open_ctranslate2, "INT8"),
        "onnxruntime": Library(_prepare_onnxruntime, _open_onnxruntime, "INT8"),
        "openvino": Library(_prepare_onnx, _open_openvino, "float32 weights"),
    }
)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

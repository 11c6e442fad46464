"""The shipped checkpoint in other engines: greedy tokens and ids equal ours.

TABWISE_EXPORT_PROMPTS: how many prompts (12). TABWISE_EXPORT_TEXT: a JSONL file whose
`text` they come from (the standard library).
"""

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from support.greedy import greedy_tokens, library_sources, one_thread, until_end
from support.huggingface import load_model
from support.llama_cpp import LlamaCpp
from support.onnx_runtime import OnnxRuntime
from tabwise_model.checkpoint import Checkpoint, load_checkpoint, resolve_checkpoint
from tabwise_model.export.to_gguf import write_gguf
from tabwise_model.export.to_huggingface import write_huggingface
from tabwise_model.export.to_onnx import write_onnx
from tabwise_model.fim import render_psm
from tabwise_model.tokenizer import SENTINELS, Tokenizer

PROMPTS = int(os.environ.get("TABWISE_EXPORT_PROMPTS", "12"))
SUFFIX_TOKENS, PROMPT_TOKENS, NEW_TOKENS = 30, 103, 16

# Share of prompts that must agree in every token: rounding breaks near ties.
LEAST_EQUAL = {"fp32": 1.0, "fp16": 0.9, "q8_0": 0.5}


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    return load_checkpoint(resolve_checkpoint("default"))


def texts() -> Iterator[str]:
    if file := os.environ.get("TABWISE_EXPORT_TEXT"):
        with Path(file).open(encoding="utf-8") as lines:
            yield from (json.loads(line)["text"] for line in lines)
    else:
        yield from library_sources(20_000_000)


def prompts_of(tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Of each text that is long enough, plain code and a hole by turns."""
    for number, text in enumerate(texts()):
        ids = tokenizer.encode(text[1_000:4_000])
        if len(ids) < 200:
            continue
        if number % 2:
            yield ids[:PROMPT_TOKENS]
        else:
            cut = PROMPT_TOKENS - SUFFIX_TOKENS - 3
            suffix = ids[cut + 8 : cut + 8 + SUFFIX_TOKENS]
            yield render_psm(tokenizer, ids[:cut], suffix)


@pytest.fixture(scope="module")
def prompts(shipped: Checkpoint) -> list[list[int]]:
    found = list(islice(prompts_of(shipped.tokenizer), PROMPTS))
    assert len(found) == PROMPTS
    assert {len(ids) for ids in found} == {PROMPT_TOKENS}
    return found


@pytest.fixture(scope="module")
def ours(shipped: Checkpoint, prompts: list[list[int]]) -> list[list[int]]:
    with one_thread():
        return greedy_tokens(shipped, prompts, NEW_TOKENS)


def test_greedy_tokens_of_transformers_are_ours(
    tmp_path: Path,
    shipped: Checkpoint,
    prompts: list[list[int]],
    ours: list[list[int]],
) -> None:
    write_huggingface(tmp_path / "hf", shipped, "fp32")
    with one_thread():
        made = load_model(tmp_path / "hf").generate(
            torch.tensor(prompts), max_new_tokens=NEW_TOKENS
        )
    end = shipped.tokenizer.end
    assert [until_end(row, end) for row in made[:, PROMPT_TOKENS:].tolist()] == ours


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_greedy_tokens_of_onnxruntime_are_ours(
    tmp_path: Path,
    shipped: Checkpoint,
    prompts: list[list[int]],
    ours: list[list[int]],
    dtype: str,
) -> None:
    write_onnx(tmp_path / "onnx", shipped, dtype)
    engine, end = OnnxRuntime(tmp_path / "onnx"), shipped.tokenizer.end
    found = engine.greedy_tokens(prompts, NEW_TOKENS, end)
    equal = sum(a == b for a, b in zip(found, ours, strict=True))
    print(f"onnx {dtype}: {equal} of {len(ours)} prompts equal in every token")
    assert equal >= LEAST_EQUAL[dtype] * len(ours)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory, shipped: Checkpoint) -> LlamaCpp:
    """The shipped checkpoint in llama.cpp, in float32."""
    file = tmp_path_factory.mktemp("gguf") / "x.gguf"
    write_gguf(file, shipped, "fp32")
    return LlamaCpp(file)


@pytest.mark.parametrize("dtype", LEAST_EQUAL)
def test_greedy_tokens_of_llama_cpp_are_ours(
    tmp_path: Path,
    shipped: Checkpoint,
    prompts: list[list[int]],
    ours: list[list[int]],
    dtype: str,
) -> None:
    write_gguf(tmp_path / "x.gguf", shipped, dtype)
    engine, end = LlamaCpp(tmp_path / "x.gguf"), shipped.tokenizer.end
    found = [engine.greedy_tokens(ids, NEW_TOKENS, end) for ids in prompts]
    equal = sum(a == b for a, b in zip(found, ours, strict=True))
    print(f"{dtype}: {equal} of {len(ours)} prompts equal in every token")
    assert equal >= LEAST_EQUAL[dtype] * len(ours)


def test_infill_of_llama_cpp_renders_our_prompt(
    shipped: Checkpoint, gguf: LlamaCpp
) -> None:
    prefix = "import os\nimport sys\n\nprint(os.path.join(sys.argv[1], "
    suffix = ")\nprint(sys.argv[2])\n"
    tokenizer = shipped.tokenizer
    prompt = render_psm(tokenizer, tokenizer.encode(prefix), tokenizer.encode(suffix))
    with one_thread():
        [wanted] = greedy_tokens(shipped, [prompt], 12)
    assert len(wanted) > 1
    assert gguf.infill(prefix, suffix, 12, tokenizer.end) == wanted


@pytest.mark.slow
def test_token_ids_of_llama_cpp_are_ours(shipped: Checkpoint, gguf: LlamaCpp) -> None:
    sentinels = " ".join(SENTINELS)
    hard = f"\r\n\t don'T we'LL 0123 ½ é e\u0301 漢字\u200d\x85{sentinels}\n\n  x"
    for text in (hard, *library_sources(5_000_000)):
        assert gguf.encode(text) == shipped.tokenizer.encode(text)

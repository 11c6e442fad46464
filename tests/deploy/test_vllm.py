"""Our exported checkpoint in stock vLLM and in llama.cpp, through the language server.

vLLM is gigabytes, so it is not part of the test environment: TABWISE_VLLM names its
`vllm` command (docs/deployment.md says how to install it), without it this is skipped.

    TABWISE_VLLM=.../bin/vllm pytest tests/deploy/test_vllm.py -rP
"""

import asyncio
import contextlib
import os
import re
import shutil
import statistics
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import attrs
import pytest

from support.language_server import isolated, language_server
from support.llama_cpp import LlamaCpp
from tabwise_model.checkpoint import load_checkpoint, resolve_checkpoint
from tabwise_model.export.to_gguf import write_gguf
from tabwise_model.export.to_huggingface import write_huggingface
from tabwise_server.backends import daemon
from tabwise_server.bench.client import Suggestion
from tabwise_server.capacity.fleet import free_port, running_fleet

VLLM = os.environ.get("TABWISE_VLLM", "")
SOURCE = Path(daemon.__file__).read_text(encoding="utf-8")
READY_S = 300.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not shutil.which(VLLM), reason="TABWISE_VLLM names no vLLM"),
]


@attrs.frozen
class Shown:
    engine: str
    answers: list[Suggestion]

    @property
    def shown(self) -> int:
        return sum(one.text is not None for one in self.answers)

    def row(self, ours: list[Suggestion]) -> str:
        times = sorted(one.latency_ms for one in self.answers)
        pairs = zip(self.answers, ours, strict=True)
        equal = sum(a.text is not None and a.text == b.text for a, b in pairs)
        return (
            f"| {self.engine} | {self.shown} of {len(times)} | {equal} |"
            f" {statistics.median(times):.0f} | {times[-1]:.0f} |"
        )


@contextlib.asynccontextmanager
async def vllm_server(model: Path, log: Path) -> AsyncIterator[str]:
    """`vllm serve` as the overlay starts it, but for the device; its address."""
    port = free_port()
    environment = os.environ | {
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(VLLM, "serve", str(model), "--served-model-name=tabwise"),
            *("--host=127.0.0.1", f"--port={port}", "--dtype=bfloat16"),
            *("--max-num-seqs=128", "--enable-prefix-caching"),
            stdout=output,
            stderr=output,
            env=environment,
        )
    try:
        await until_healthy(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        print(await asyncio.to_thread(last_lines, log))


def last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])


async def until_healthy(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(READY_S), aiohttp.ClientSession() as http:
        while process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.5)
    raise AssertionError("vLLM ended")


def cursors() -> list[tuple[str, tuple[int, int]]]:
    """Twenty documents with one line broken off behind a word, and where."""
    lines = SOURCE.splitlines()
    found = []
    for number, line in enumerate(lines):
        place = re.match(r"\s+(\w+ =|return|if|for \w+ in)(?= \S)", line)
        if place is not None:
            text = [*lines[:number], line[: place.end()], *lines[number + 1 :]]
            found.append(("\n".join(text), (number, place.end())))
    return found[:20]


async def suggestions(environment: Mapping[str, str]) -> list[Suggestion]:
    """What a real `tabwise lsp` offers at each cursor, however unsure."""
    async with language_server(environment) as client:
        await client.wait_until_ready(60)
        found = []
        for number, (text, at) in enumerate(cursors()):
            uri = f"file:///project/{number}.py"
            client.open(uri, text)
            found.append(await client.inline_completion(uri, at))
        return found


def environment(folder: Path, kind: str, url: str) -> dict[str, str]:
    folder.mkdir()
    return isolated(
        folder,
        TABWISE_BACKEND_KIND=kind,
        TABWISE_BACKEND_URL=url,
        TABWISE_BACKEND_MODEL="tabwise",
        TABWISE_LSP_DEADLINE_MS="20000",
        TABWISE_LSP_MAX_PREFIX_CHARS="900",  # vLLM refuses what is over 512 tokens
        TABWISE_LSP_MAX_SUFFIX_CHARS="300",
    )


async def test_other_engines_fill_in_the_middle_through_the_language_server(
    tmp_path: Path,
) -> None:
    checkpoint = load_checkpoint(resolve_checkpoint("default"))
    write_huggingface(tmp_path / "hf", checkpoint, "bf16")
    write_gguf(tmp_path / "model.gguf", checkpoint, "fp16")
    async with running_fleet(1, "--engines", "0", "--threads", "1") as [ours]:
        settings = environment(tmp_path / "0", "tabwise", ours.url)
        results = [Shown("tabwise serve, INT8", await suggestions(settings))]
    async with vllm_server(tmp_path / "hf", tmp_path / "vllm.log") as url:
        settings = environment(tmp_path / "1", "openai", url)
        results.append(Shown("vLLM, bf16", await suggestions(settings)))
    llama = LlamaCpp(tmp_path / "model.gguf")
    settings = environment(tmp_path / "2", "llamacpp", llama.url)
    results.append(Shown("llama.cpp, fp16", await suggestions(settings)))
    print(
        "| engine | shown | as ours | median, ms | longest, ms |\n|---|---|---|---|---|"
    )
    for result in results:
        print(result.row(results[0].answers))
    # llama.cpp's /infill has the suffix after the prefix, taught to ours less
    vllm, llama_cpp = results[1:]
    assert vllm.shown >= results[0].shown // 2
    assert llama_cpp.shown > 0

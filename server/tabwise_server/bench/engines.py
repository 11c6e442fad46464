"""Our engine beside others on one checkpoint: prefill and decoding.

Ours and llama.cpp's are real servers on this machine and take turns; each tells its own
times, so that HTTP counts for neither. llama.cpp has the weights as Q8_0, ours are
INT8. Libraries without a server follow, in processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from tabwise_server.bench.libraries import LIBRARIES, measure_library
from tabwise_server.bench.machine import describe_machine
from tabwise_server.bench.processes import tabwise_serve
from tabwise_server.bench.rival import export_gguf, llama_cpp_server
from tabwise_server.bench.users import sources
from tabwise_server.errors import SettingsError

PROMPT_CHARS = 8_000  # more than fits, so that every prompt fills its window
NEW_TOKENS = 32
CONTEXT = 512  # tokens that prefill is told for

Ask = Callable[[str], Awaitable["Times"]]


@attrs.frozen
class Times:
    """Milliseconds of one request: of CONTEXT prompt tokens, and of one new token."""

    prefill_ms: float
    token_ms: float


@attrs.frozen(kw_only=True)
class Row:
    """Medians of one server at one number of threads."""

    shape: str
    engine: str
    threads: int
    prefill_ms: float
    token_ms: float


async def measure(shape: str, folder: Path, threads: int, rounds: int) -> list[Row]:
    """Both servers, in turns, on prompts that neither has seen; ours comes first."""
    with tempfile.TemporaryDirectory() as scratch:
        gguf = Path(scratch) / "model.gguf"
        await asyncio.to_thread(export_gguf, str(folder), "q8_0", gguf)
        async with (
            _ours(folder, threads) as ours,
            _llama_cpp(gguf, threads) as theirs,
        ):
            taken: dict[str, list[Times]] = {"tabwise": [], "llama.cpp": []}
            for text in sources(rounds + 1):
                taken["tabwise"].append(await ours(text))
                taken["llama.cpp"].append(await theirs(text))
    return [
        Row(
            shape=shape,
            engine=engine,
            threads=threads,
            prefill_ms=statistics.median(t.prefill_ms for t in times[1:]),
            token_ms=statistics.median(t.token_ms for t in times[1:]),
        )
        for engine, times in taken.items()
    ]


def measure_libraries(
    shape: str, folder: Path, threads: int, rounds: int, names: Sequence[str]
) -> list[Row]:
    """Each library by itself, on prompts of the same length."""
    from tabwise_model.checkpoint import load_checkpoint

    tokenizer = load_checkpoint(folder).tokenizer
    length = CONTEXT - NEW_TOKENS - 8
    prompts = [tokenizer.encode(text)[:length] for text in sources(rounds + 1)]
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            prefill, token = measure_library(
                name, str(folder), Path(scratch), threads, prompts
            )
        rows.append(
            Row(
                shape=shape,
                engine=f"{name}, {LIBRARIES[name].says}",
                threads=threads,
                prefill_ms=statistics.median(prefill) * CONTEXT / length,
                token_ms=statistics.median(token),
            )
        )
    return rows


@contextlib.asynccontextmanager
async def _ours(folder: Path, threads: int) -> AsyncIterator[Ask]:
    flags = ["--checkpoint", str(folder), "--threads", str(threads), "--slots", "4"]
    async with tabwise_serve(flags) as served, aiohttp.ClientSession() as session:

        async def ask(text: str) -> Times:
            body = {"prefix": text[:PROMPT_CHARS], "max_new_tokens": NEW_TOKENS}
            # sampled among one: neither search nor copying, as the other does it
            body |= {"stop": "none", "temperature": 0.01, "top_k": 1}
            said = await _post(session, served.url + "/v1/tabwise/complete", body)
            times = said["timings"]
            return Times(
                times["prefill_ms"] * CONTEXT / said["prompt_tokens"],
                times["decode_ms"] / max(1, said["tokens"] - 1),
            )

        yield ask


@contextlib.asynccontextmanager
async def _llama_cpp(gguf: Path, threads: int) -> AsyncIterator[Ask]:
    async with (
        llama_cpp_server(gguf, slots=1, threads=threads) as rival,
        aiohttp.ClientSession() as session,
    ):

        async def ask(text: str) -> Times:
            ids = await _post(session, rival.url + "/tokenize", {"content": text})
            body = {
                "prompt": ids["tokens"][: CONTEXT - NEW_TOKENS - 8],
                "n_predict": NEW_TOKENS,
                "temperature": 0,
                "ignore_eos": True,
                "cache_prompt": False,
            }
            said = await _post(session, rival.url + "/completion", body)
            times = said["timings"]
            return Times(
                times["prompt_per_token_ms"] * CONTEXT, times["predicted_per_token_ms"]
            )

        yield ask


async def _post(session: aiohttp.ClientSession, url: str, body: Any) -> Any:
    async with session.post(url, json=body) as response:
        if response.status != 200:
            raise SettingsError(f"{url}: {await response.text()}")
        return await response.json()


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="default")
    parser.add_argument(
        "--large", action="store_true", help="41.6M random parameters besides"
    )
    parser.add_argument(
        "--libraries",
        nargs="+",
        default=[],
        choices=sorted(LIBRARIES),
        help="these besides; each must be installed",
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9, help="requests to each")
    parser.add_argument("--out", type=Path, help="write JSON here")


def run(arguments: argparse.Namespace) -> int:
    from tabwise_model.checkpoint import resolve_checkpoint

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        shapes = {arguments.checkpoint: resolve_checkpoint(arguments.checkpoint)}
        if arguments.large:
            shapes["S1 (41.6M, random)"] = save_random("S1", Path(scratch) / "S1")
        for shape, folder in shapes.items():
            for threads in arguments.threads:
                size = (shape, folder, threads, arguments.rounds)
                rows += asyncio.run(measure(*size))
                rows += measure_libraries(*size, arguments.libraries)
    print(table(rows))
    print(describe_machine())
    if arguments.out:
        text = json.dumps([attrs.asdict(row) for row in rows], indent=1)
        arguments.out.write_text(text, encoding="utf-8")
    return 0


def save_random(shape: str, folder: Path) -> Path:
    """A checkpoint of a stated shape with random weights; its vocabulary is all bytes
    and as many pairs of them as there is room for. Its window is CONTEXT tokens, so
    that it reads no longer prompts than others are given."""
    from tabwise_model.checkpoint import save_checkpoint
    from tabwise_model.runners.native_bench import SHAPES, random_checkpoint
    from tabwise_model.tokenizer import SENTINELS, Tokenizer

    config = attrs.evolve(SHAPES[shape], block_size=CONTEXT)
    pieces = [bytes([a]) for a in range(256)]
    pieces += [a + b for a in pieces for b in pieces]
    pieces = pieces[: config.vocab_size - len(SENTINELS)]
    tokenizer = Tokenizer({piece: rank for rank, piece in enumerate(pieces)})
    checkpoint = attrs.evolve(random_checkpoint(config), tokenizer=tokenizer)
    save_checkpoint(folder, checkpoint)
    return folder


def table(rows: Sequence[Row]) -> str:
    """A line for each engine, with how many times as long as ours it takes."""
    lines = [
        "| model | threads | engine | ms/token | times ours | prefill 512, ms "
        "| times ours |",
        "|---|---|---|---|---|---|---|",
    ]
    ours = rows[0]
    for row in rows:
        if row.engine == "tabwise":
            ours = row
        lines.append(
            f"| {row.shape} | {row.threads} | {row.engine} "
            f"| {row.token_ms:.2f} | {row.token_ms / ours.token_ms:.1f} "
            f"| {row.prefill_ms:.1f} | {row.prefill_ms / ours.prefill_ms:.1f} |"
        )
    return "\n".join(lines)

"""llama.cpp's own server on our checkpoint, as a process: what we are measured beside.

Needs the packages xllamacpp (llama.cpp in a wheel) and gguf (to write its format).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import attrs

from tabwise_server.errors import SettingsError

READY_S = 120.0
CONTEXT = 512  # tokens a slot; our checkpoint's window


@attrs.frozen
class Rival:
    """A running llama.cpp server."""

    url: str
    pid: int


def export_gguf(checkpoint: str, dtype: str, file: Path) -> None:
    """Write `checkpoint` for llama.cpp; in a process of its own, since it loads torch.

    Raises SettingsError with what the exporter said.
    """
    command = [sys.executable, "-P", "-m", "tabwise_server", "export", checkpoint]
    command += ["--format", "gguf", "--dtype", dtype, "--out", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingsError(f"no GGUF of {checkpoint}: {done.stderr.strip()}")


@contextlib.asynccontextmanager
async def llama_cpp_server(
    gguf: Path, slots: int = 4, threads: int = 2
) -> AsyncIterator[Rival]:
    """llama.cpp serving `gguf` on a free port of this machine for the block.

    Raises SettingsError if it does not come up.
    """
    command = [sys.executable, "-P", "-m", __name__, str(gguf), str(slots)]
    process = await asyncio.create_subprocess_exec(
        *command,
        str(threads),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_S):
            line = await process.stdout.readline()
        if not line:
            raise SettingsError(
                "llama.cpp did not start; it needs: pip install 'tabwise[dev]'"
            )
        yield Rival(json.loads(line)["url"], process.pid)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def serve(gguf: str, slots: int, threads: int) -> None:
    """Serve until our stdin ends; llama.cpp's defaults but for what is named here."""
    xllamacpp = importlib.import_module("xllamacpp")  # without types
    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.port = 0
    params.n_ctx = CONTEXT * slots
    params.n_parallel = slots
    params.endpoint_metrics = True
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    print(json.dumps({"url": server.listening_address}), flush=True)
    ended = threading.Thread(target=sys.stdin.read)
    ended.start()
    ended.join()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

"""Our own backend as a process of a measurement's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence

import attrs

from tabwise_server.errors import BackendUnavailable

READY_S = 120.0


@attrs.frozen
class Served:
    """A running `tabwise serve`."""

    url: str
    pid: int
    process: asyncio.subprocess.Process


@contextlib.asynccontextmanager
async def tabwise_serve(
    flags: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> AsyncIterator[Served]:
    """`tabwise serve` on a free port of this machine for the block.

    environment: over this process's own. Raises BackendUnavailable with its last words
    if it does not come up.
    """
    command = [sys.executable, "-P", "-m", "tabwise_server", "serve", "--port", "0"]
    process = await asyncio.create_subprocess_exec(
        *command,
        *flags,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    assert process.stderr is not None
    draining: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(READY_S):
            url = await _address(process.stderr)
        draining = asyncio.create_task(process.stderr.read())
        yield Served(url, process.pid, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if draining is not None:
            await draining


async def _address(stderr: asyncio.StreamReader) -> str:
    """The address that it logs once it listens."""
    line = b""
    while (newest := await stderr.readline()) != b"":
        line = newest
        if b"http://" in line:
            return line[line.index(b"http://") :].decode().strip()
    raise BackendUnavailable(f"tabwise serve ended: {line.decode(errors='replace')}")

"""A real Redis of a measurement's own, or a test's."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator

import attrs

from tabwise_server.capacity.fleet import FleetError, free_port

READY_S = 30.0


@attrs.define
class RedisServer:
    """`redis-server` on a port that it keeps when it is started again."""

    folder: str
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Return once it listens. Raises FleetError where there is none."""
        if shutil.which("redis-server") is None:
            raise FleetError(
                "redis-server is not installed (Debian: apt-get install redis-server)"
            )
        self.process = await asyncio.create_subprocess_exec(
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--dir", self.folder),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(READY_S):
            while line := await self.process.stdout.readline():
                if b"Ready to accept" in line:
                    return
        raise FleetError("redis-server ended without listening")

    def signal(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()


@contextlib.asynccontextmanager
async def running_redis() -> AsyncIterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="tabwise-redis-") as folder:
        server = RedisServer(folder, free_port())
        try:
            await server.start()
            yield server
        finally:
            await server.kill()

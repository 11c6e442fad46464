"""Real backends on this machine, and the cluster's own nginx before them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import aiohttp
import attrs

from tabwise_server.errors import TabwiseError

READY_S = 60.0
POLL_S = 0.02
ROUTER = Path("k8s/base")  # of a checkout: nginx.conf and upstream.conf
SERVER = "    server code-assistant-pods.tabwise.svc.cluster.local:8000 resolve "
UNCACHED: Mapping[str, str] = MappingProxyType(
    {"TABWISE_SERVE_RESPONSE_CACHE_BYTES": "0"}
)


class FleetError(TabwiseError):
    """Something that a real fleet needs is missing, or did not start."""


@attrs.define
class Member:
    """One `tabwise serve`; `url` stays through restarts. module: what runs it.
    environment: over this process's own; by default no answer is given twice, since
    figures are of the engine."""

    flags: Sequence[str]
    module: str
    environment: Mapping[str, str]
    process: asyncio.subprocess.Process
    url: str
    log: asyncio.Task[None]

    @classmethod
    async def start(
        cls,
        *flags: str,
        port: int = 0,
        module: str = "tabwise_server",
        environment: Mapping[str, str] = UNCACHED,
    ) -> Member:
        """A backend that answers. Raises FleetError with what it said last."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", module, "serve"),
            *("--port", str(port), *flags),
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
        )
        url = await _address(process)
        log = asyncio.create_task(_drop(process))
        return cls(flags, module, environment, process, url, log)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to drain (or kill it); its exit status once it has gone."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        status = await self.process.wait()
        await self.log
        return status

    async def restart(self) -> None:
        """Drain it, and start another at the same address."""
        await self.stop()
        self._become(await self._another())

    async def hand_over(self, after_s: float) -> None:
        """Start another at the same address, and drain this one so much later. It must
        run with --reuse-port."""
        fresh = await self._another()
        await asyncio.sleep(after_s)
        await self.stop()
        self._become(fresh)

    async def _another(self) -> Member:
        port = int(self.url.rpartition(":")[2])
        return await Member.start(
            *self.flags, port=port, module=self.module, environment=self.environment
        )

    def _become(self, fresh: Member) -> None:
        self.process, self.log = fresh.process, fresh.log


@contextlib.asynccontextmanager
async def running_fleet(
    count: int,
    *flags: str,
    module: str = "tabwise_server",
    environment: Mapping[str, str] = UNCACHED,
) -> AsyncIterator[list[Member]]:
    """`count` backends, each on a free port; killed at the end if they still run."""
    starts = [
        asyncio.create_task(
            Member.start(*flags, port=port, module=module, environment=environment)
        )
        for port in free_ports(count)
    ]
    await asyncio.wait(starts)
    try:
        yield [await start for start in starts]
    finally:
        for start in starts:
            if start.exception() is None:
                await start.result().stop(signal.SIGKILL)


@contextlib.asynccontextmanager
async def running_router(
    urls: Sequence[str], source: Path = ROUTER, quiet: bool = False
) -> AsyncIterator[tuple[str, Path]]:
    """nginx with the cluster's configuration before `urls`; its address, and its log.
    quiet: what goes wrong behind it is not told on stderr.

    Of the configuration, only port, paths and the backends' addresses are replaced.
    Raises FleetError where nginx is missing.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        raise FleetError("nginx is not installed (Debian: apt-get install nginx)")
    with tempfile.TemporaryDirectory(prefix="tabwise-router-") as name:
        folder, port = Path(name), free_port()
        _write_configuration(source, folder, port, urls)
        process = await asyncio.create_subprocess_exec(
            *(nginx, "-p", name, "-e", "stderr", "-c", str(folder / "nginx.conf")),
            *("-g", "daemon off;"),
            stderr=asyncio.subprocess.DEVNULL if quiet else None,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            await _until_it_answers(f"{url}/router/livez", process)
            yield url, folder / "access.log"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await process.wait()


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """As many different ones."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _write_configuration(
    source: Path, folder: Path, port: int, urls: Sequence[str]
) -> None:
    try:
        main = (source / "nginx.conf").read_text(encoding="utf-8")
        upstream = (source / "upstream.conf").read_text(encoding="utf-8")
    except OSError as error:
        raise FleetError(f"{error.filename}: run this in a checkout") from error
    folder.chmod(0o755)  # nginx' workers are another user
    main = _replace(main, "listen 8000 reuseport;", f"listen 127.0.0.1:{port};")
    main = main.replace(" /tmp/", f" {folder}/")
    main = _replace(main, "access_log /dev/stdout", f"access_log {folder}/access.log")
    line = next(one for one in upstream.splitlines() if one.startswith(SERVER))
    options = line.removeprefix(SERVER)
    servers = [f"    server {url.rpartition('/')[2]} {options}" for url in urls]
    upstream = _replace(upstream, line, "\n".join(servers))
    upstream = "\n".join(
        one for one in upstream.splitlines() if not one.startswith("resolver ")
    )
    (folder / "nginx.conf").write_text(main, encoding="utf-8")
    (folder / "upstream.conf").write_text(upstream, encoding="utf-8")


def _replace(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise FleetError(f"the router's configuration must have {old!r} once")
    return text.replace(old, new)


async def _address(process: asyncio.subprocess.Process) -> str:
    """What the backend logs once it listens."""
    assert process.stderr is not None
    said = "nothing"
    async with asyncio.timeout(READY_S):
        while line := (await process.stderr.readline()).decode(errors="replace"):
            if "http://" in line:
                return line[line.index("http://") :].strip()
            said = line.strip() or said
    await process.wait()
    raise FleetError(f"a backend ended without listening; it said: {said}")


async def _drop(process: asyncio.subprocess.Process) -> None:
    """Read on, so that the process never waits for a full pipe."""
    assert process.stderr is not None
    while await process.stderr.read(1 << 16):
        pass


async def _until_it_answers(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(READY_S), aiohttp.ClientSession() as http:
        while True:
            if process.returncode is not None:
                raise FleetError(f"nginx ended with status {process.returncode}")
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(POLL_S)

"""What the people of a fault run ask: two backends behind nginx with a Redis, and what
befalls them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import attrs

from tabwise_server.bench.faults.faulty import ENDS, HANGS
from tabwise_server.bench.machine import family, resident_mb
from tabwise_server.bench.redis_server import RedisServer, running_redis
from tabwise_server.capacity.fleet import Member, running_fleet, running_router
from tabwise_server.metrics_text import read_metrics
from tabwise_server.serving.engine.engines import RESTART_REASONS

logger = logging.getLogger(__name__)

MODULE = "tabwise_server.bench.faults.faulty"
KEYS = 4
ENGINES_EVERY_S = 600.0  # and as often Redis, and a backend
REDIS_AWAY = 0.03  # of that
WATCH_S = 1.0
BESIDE_S = 5.0  # that a successor and who leaves both answer
LOOK_S = 5.0  # for a backend to tell its figures


@attrs.frozen
class House:
    """url: the router's; keys: any of them may ask."""

    url: str
    keys: list[str]
    members: list[Member]
    redis: RedisServer
    events: list[str] = attrs.Factory(list)

    async def suffer(self, every_s: float) -> None:
        """Break one thing after the other, until cancelled."""
        for step in itertools.count():
            await asyncio.sleep(every_s / 3)
            await self._break(step, every_s)

    async def _break(self, step: int, every_s: float) -> None:
        turn, what = divmod(step, 3)
        member = self.members[turn % 2]
        if what == 0:
            hangs = turn % 3 == 2
            self._tell(f"an engine of {member.url} {'hangs' if hangs else 'ends'}")
            _break_engine(member.process.pid, hangs)
        elif what == 1:
            self._tell("Redis is killed")
            await self.redis.kill()
            await asyncio.sleep(REDIS_AWAY * every_s)
            await self.redis.start()
        else:
            self._tell(f"{member.url} is told to leave; another takes over")
            await member.hand_over(BESIDE_S)

    def _tell(self, words: str) -> None:
        self.events.append(words)
        logger.warning("%s", words)


def _break_engine(pid: int, hangs: bool) -> None:
    """One of those of a backend, in a process of its own or not."""
    _, *engines = family(pid)
    if engines:
        os.kill(engines[0], signal.SIGSTOP if hangs else signal.SIGKILL)
    else:
        os.kill(pid, HANGS if hangs else ENDS)


@contextlib.asynccontextmanager
async def running_house(
    slots: int, environment: Mapping[str, str]
) -> AsyncIterator[House]:
    """Two backends of `slots`, one that computes itself and one with two processes for
    it, nginx before them, and Redis beside them. Raises FleetError for what is missing.
    """
    keys = [secrets.token_hex(16) for _ in range(KEYS)]
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "keys"
        file.write_text("".join(f"key{n} {key}\n" for n, key in enumerate(keys)))
        redis = await stack.enter_async_context(running_redis())
        settings = {
            "TABWISE_SERVE_API_KEYS_FILE": str(file),
            "TABWISE_SERVE_REDIS_URL": redis.url,
            "TABWISE_SERVE_CACHE_SECRET": secrets.token_hex(16),
            **environment,
        }
        # as many places as are answered within a deadline, and a second thread for
        # when the other backend is gone
        flags = ["--threads", "2", "--slots", str(slots)]
        flags += ["--max-queue", "256", "--reuse-port"]
        members = [
            member
            for engines in ("0", "2")
            for member in await stack.enter_async_context(
                running_fleet(
                    1, "--engines", engines, *flags, module=MODULE, environment=settings
                )
            )
        ]
        urls = [member.url for member in members]
        url, _ = await stack.enter_async_context(running_router(urls, quiet=True))
        yield House(url, keys, members, redis)


@attrs.define
class Watch:
    """What each process holds, in megabytes over its life, and how often engines were
    replaced, by reason."""

    restarts: dict[tuple[int, str], float] = attrs.Factory(dict)
    _now: dict[int, list[float]] = attrs.Factory(dict)
    _past: list[list[float]] = attrs.Factory(list)

    async def look(self, house: House) -> None:
        """Now and again, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=LOOK_S)
        headers = {"Authorization": f"Bearer {house.keys[0]}"}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as http:
            while True:
                for member in house.members:
                    for pid in family(member.process.pid):
                        self.remember(pid)
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        await self._count(http, member)
                await asyncio.sleep(WATCH_S)

    def remember(self, pid: int) -> None:
        megabytes = resident_mb(pid)
        if megabytes is not None:
            self._now.setdefault(pid, []).append(megabytes)

    def cut(self, pid: int) -> None:
        """Another life begins: an engine that hangs keeps its memory for as long as
        its process lives, which is no leak."""
        self._past.append(self._now.pop(pid, []))

    def lives(self) -> list[list[float]]:
        return [*self._past, *self._now.values()]

    async def _count(self, http: aiohttp.ClientSession, member: Member) -> None:
        pid = member.process.pid
        async with http.get(f"{member.url}/metrics") as answer:
            metrics = read_metrics(await answer.text())
        for reason in RESTART_REASONS:
            count = metrics[f'tabwise_engine_restarts_total{{reason="{reason}"}}']
            before = self.restarts.get((pid, reason), 0)
            if reason == "hung" and count > before:
                self.cut(pid)
            # while two share the port, the other may answer
            self.restarts[pid, reason] = max(before, count)

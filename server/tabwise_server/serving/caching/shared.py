"""Answers that several backends share through Redis, which is trusted with nothing.

It may be gone, slow, empty, or say what it likes: what it gives counts only with our
seal on it, for this very key; and after a failure it is left alone for a while, so that
it costs a request `timeout_s` at most, and most requests nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections import Counter
from typing import Any

from tabwise_model.request import Generation
from tabwise_server.errors import SettingsError
from tabwise_server.serving.caching.kept import pack, unpack

logger = logging.getLogger(__name__)

PREFIX = b"tabwise:"
SEAL_BYTES = 32
MAX_BYTES = 65_536  # of one answer
REST_S = 5.0  # after a failure
FAILURES = ("unreachable", "forged")
MOST_WRITES = 64  # on their way; more are left out


class SharedCache:
    """failures: by reason, of FAILURES."""

    def __init__(
        self, url: str, secret: bytes, ttl_s: float, timeout_s: float = 0.05
    ) -> None:
        """Raises SettingsError for an address that is none, or without the library."""
        self._client = _client(url, timeout_s)
        self._secret, self._ttl_s, self._timeout_s = secret, ttl_s, timeout_s
        self._rests_until = 0.0
        self._writes: set[asyncio.Task[None]] = set()
        self.failures: Counter[str] = Counter()

    async def get(self, key: bytes) -> Generation | None:
        """What was put under the key; never raises for anything that Redis does."""
        if time.monotonic() < self._rests_until:
            return None
        data = await self._ask("GET", PREFIX + key)
        if data is None:
            return None
        try:
            return self._opened(key, data)
        except ValueError:
            self.failures["forged"] += 1
            logger.warning("Redis gave an answer that is not ours; it is not used")
            return None

    def put(self, key: bytes, result: Generation) -> None:
        """Begin to write it; nobody waits for that."""
        if time.monotonic() < self._rests_until or len(self._writes) >= MOST_WRITES:
            return
        packed = pack(result)
        if len(packed) <= MAX_BYTES:
            task = asyncio.create_task(self._write(key, packed))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        for task in self._writes:
            task.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._client.aclose()

    async def _write(self, key: bytes, packed: bytes) -> None:
        sealed = self._seal(key, packed) + packed
        ttl_ms = int(self._ttl_s * 1000)
        await self._ask("SET", PREFIX + key, sealed, "PX", ttl_ms)

    async def _ask(self, *command: Any) -> Any:
        """Redis' reply; None for none, and for whatever goes wrong."""
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._client.execute_command(*command)
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            self.failures["unreachable"] += 1
            self._rests_until = time.monotonic() + REST_S
            kind = type(error).__name__
            logger.warning("no Redis for %g s: %s", REST_S, kind)
            return None

    def _opened(self, key: bytes, data: Any) -> Generation:
        """Raises ValueError for what has not our seal."""
        if not isinstance(data, bytes):
            raise ValueError("not bytes")
        seal, packed = data[:SEAL_BYTES], data[SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(key, packed)):
            raise ValueError("the seal is broken")
        return unpack(packed)

    def _seal(self, key: bytes, packed: bytes) -> bytes:
        return hashlib.blake2b(
            key + packed, key=self._secret, digest_size=SEAL_BYTES, person=b"seal"
        ).digest()


def _client(url: str, timeout_s: float) -> Any:
    try:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ModuleNotFoundError as error:
        raise SettingsError(
            "redis_url needs a library: pip install 'tabwise[redis]'"
        ) from error
    try:
        return redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise SettingsError(
            "redis_url must be like redis://host:6379/0 (its value is not shown)"
        ) from error

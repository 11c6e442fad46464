"""Answers that were given before: in this process, then in Redis where there is one."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter

from tabwise_model.request import Generation
from tabwise_server.errors import SettingsError
from tabwise_server.serving.caching.kept import as_kept, key_of
from tabwise_server.serving.caching.memory import MemoryCache
from tabwise_server.serving.caching.shared import SharedCache
from tabwise_server.serving.engine.engines import Model
from tabwise_server.serving.question import Question
from tabwise_server.settings import ServeSettings

MIN_SECRET_CHARS = 16
PLACES = ("memory", "redis", "nowhere")


class AnswerCache:
    """Exact questions only. found: where each one was, of PLACES; those that may be
    answered differently each time are not counted."""

    def __init__(self, settings: ServeSettings) -> None:
        """Raises SettingsError."""
        self._secret = _secret_of(settings)
        ttl_s = settings.response_cache_ttl_s
        self._memory = MemoryCache(settings.response_cache_bytes, ttl_s)
        self._shared: SharedCache | None = None
        if settings.redis_url is not None:
            timeout_s = settings.redis_timeout_ms / 1000
            self._shared = SharedCache(
                settings.redis_url, self._secret, ttl_s, timeout_s
            )
        self._on = settings.response_cache_bytes > 0 or self._shared is not None
        self.found: Counter[str] = Counter()

    @property
    def failures(self) -> Counter[str]:
        """Redis', by reason."""
        return Counter() if self._shared is None else self._shared.failures

    def key(self, question: Question, owner: str, model: Model) -> bytes | None:
        """What to look for and to keep an answer under; None for neither."""
        return key_of(question, owner, model, self._secret) if self._on else None

    async def find(self, key: bytes) -> Generation | None:
        result, place = self._memory.get(key), "memory"
        if result is None and self._shared is not None:
            result, place = await self._shared.get(key), "redis"
            if result is not None:
                self._memory.put(key, result)
        self.found["nowhere" if result is None else place] += 1
        return result

    def keep(self, key: bytes, result: Generation) -> None:
        kept = as_kept(result)
        self._memory.put(key, kept)
        if self._shared is not None:
            self._shared.put(key, kept)

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()


def _secret_of(settings: ServeSettings) -> bytes:
    """What keys and seals are made with. Backends that share must share it, so where
    they do it has to be set."""
    given = settings.cache_secret
    if given is None:
        if settings.redis_url is not None:
            raise SettingsError(
                "redis_url needs cache_secret, the same for all backends that share: "
                f"any {MIN_SECRET_CHARS} characters or more that nobody can guess"
            )
        return secrets.token_bytes(32)
    if len(given) < MIN_SECRET_CHARS:
        raise SettingsError(
            f"cache_secret must have at least {MIN_SECRET_CHARS} characters, "
            f"got {len(given)}"
        )
    return hashlib.blake2b(given.encode(), digest_size=32).digest()

"""A real Redis for a test, where there is one."""

import shutil

import pytest

from tabwise_server.bench.redis_server import RedisServer, running_redis

__all__ = ["RedisServer", "needs_redis", "running_redis"]

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None,
    reason="redis-server is not installed (Debian: apt-get install redis-server)",
)

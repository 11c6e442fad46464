"""Real language servers and real daemons over a tiny random model."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.checkpoints import save_tiny
from support.language_server import end_daemon, isolated

Env = dict[str, str]


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
async def environment(tmp_path: Path, tiny_checkpoint: Path) -> AsyncIterator[Env]:
    """A user of the test's own; the daemon that comes up there ends with the test."""
    yield isolated(tmp_path, TABWISE_SERVE_CHECKPOINT=str(tiny_checkpoint))
    await end_daemon(tmp_path / "state")

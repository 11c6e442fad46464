"""A scripted backend, and an environment that points language servers at it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.language_server import isolated
from support.scripted_backend import ScriptedBackend, scripted_backend


@pytest.fixture
async def backend() -> AsyncIterator[ScriptedBackend]:
    async with scripted_backend() as running:
        yield running


@pytest.fixture
def environment(tmp_path: Path, backend: ScriptedBackend) -> dict[str, str]:
    return isolated(tmp_path, TABWISE_BACKEND_URL=backend.url)

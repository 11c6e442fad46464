"""A scripted backend over real HTTP."""

from collections.abc import AsyncIterator

import pytest

from support.scripted_backend import ScriptedBackend, scripted_backend


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedBackend]:
    async with scripted_backend() as running:
        yield running

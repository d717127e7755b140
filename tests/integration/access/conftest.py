"""A fixture: the access service's connections without HTTP."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.integration.access.connected_processes import (
    Process,
    make_settings,
    running_process,
)
from tests.support.simulator import Simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process(database_url: str, simulator: Simulator) -> AsyncIterator[Process]:
    async with running_process(database_url, make_settings(simulator)) as running:
        yield running

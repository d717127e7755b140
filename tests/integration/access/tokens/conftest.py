"""Fixtures: two processes of the access service that the modules share, and an account."""

from collections.abc import Iterator
from functools import partial
from uuid import UUID

import pytest
import pytest_asyncio

from tests.integration.access.connected_processes import Process
from tests.integration.access.tokens.routes import running_services
from tests.integration.conftest import Workspace
from tests.support.deployment import is_ready
from tests.support.infrastructure import Servers, fresh_database
from tests.support.processes import RunningProgram
from tests.support.simulator import Simulator


@pytest.fixture(scope="package")
def database_url(stack: Servers) -> Iterator[str]:
    """The owner's URL of the database of all modules here."""
    with fresh_database(stack.database_url) as url:
        yield url


@pytest.fixture(scope="package")
def shared_services(
    database_url: str, session_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, RunningProgram]]:
    directory = tmp_path_factory.mktemp("access")
    with running_services(database_url, session_simulator, directory) as running:
        yield running


@pytest.fixture
def services(shared_services: dict[str, RunningProgram]) -> dict[str, RunningProgram]:
    """Two processes of the access service, by their URLs. Those that a test killed run again."""
    for url, program in shared_services.items():
        if not program.is_alive:
            program.start()
            program.wait_until(partial(is_ready, url))
    return shared_services


@pytest_asyncio.fixture(loop_scope="module")
async def account(process: Process, simulator: Simulator, workspace: Workspace) -> UUID:
    simulator.control("POST", "reset")
    simulator.change_settings(single_use=True)
    return await process.connect(simulator, workspace.id)

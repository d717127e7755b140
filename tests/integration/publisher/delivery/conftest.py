"""Fixtures: a connected account of its own for each test, and the role of the publisher."""

from collections.abc import AsyncIterator

import pytest_asyncio
from pydantic import SecretStr

from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.integration.publisher.delivery.deliveries import Deliveries
from tests.support.infrastructure import with_role
from tests.support.simulator import Simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def publisher_database(database_url: str) -> AsyncIterator[Database]:
    url = with_role(database_url, "pinflow_publisher")
    database = Database.from_settings(
        DatabaseSettings(database_url=SecretStr(url)), application="test-delivery"
    )
    yield database
    await database.dispose()


@pytest_asyncio.fixture(loop_scope="module")
async def deliveries(
    publisher_database: Database, simulator: Simulator
) -> AsyncIterator[Deliveries]:
    simulator.change_settings(buckets=False)
    account = Deliveries(publisher_database, simulator)
    yield account
    simulator.control("POST", "faults", {"kind": "none"})
    await account.client.close()

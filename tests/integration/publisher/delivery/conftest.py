"""Accounts of the simulator, pins that wait for their delivery, and the role of the publisher."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pydantic import SecretStr

from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.integration.publisher.delivery.deliveries import Deliveries
from tests.support.delivery.process import Account, Delivery
from tests.support.infrastructure import with_role
from tests.support.simulator import Simulator


@pytest_asyncio.fixture(loop_scope="module")
async def delivery(database: Database, database_url: str, simulator: Simulator) -> Delivery:
    """An empty queue, and no faults."""
    simulator.control("POST", "faults", {"kind": "none"})
    delivery = Delivery(database, database_url, simulator)
    await delivery.execute(
        "truncate publisher.pins, publisher.outbox, publisher.delivery_attempts, "
        "publisher.delivery_accounts, publisher.delivery_apps, publisher.pinterest_budgets, "
        "publisher.removals"
    )
    return delivery


@pytest.fixture
def account(delivery: Delivery) -> Account:
    return delivery.add_account()


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
    """A connected account of its own, for the parts of a turn without a process."""
    simulator.change_settings(buckets=False)
    account = Deliveries(publisher_database, simulator)
    yield account
    simulator.control("POST", "faults", {"kind": "none"})
    await account.client.close()

"""Accounts of the simulator, and pins that wait for their delivery."""

import pytest
import pytest_asyncio

from shared.postgres.database import Database
from tests.support.delivery.process import Account, Delivery
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

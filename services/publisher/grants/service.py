"""Grants requests to Pinterest that other services send, from the budgets of deliveries."""

from services.publisher.delivery.budgets.repository import Budgets
from services.publisher.delivery.budgets.rules import Exhausted
from services.publisher.grants.schemas import GrantRequest
from shared.postgres.database import Database, driver_connection


class GrantService:
    """Takes requests of other services from the budgets. Raises DatabaseUnavailable."""

    def __init__(self, database: Database, budgets: Budgets) -> None:
        self._database = database
        self._budgets = budgets

    async def take(self, request: GrantRequest) -> float:
        """Takes one request. Returns 0, or the seconds to wait before the next attempt."""
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            wait = await self._budgets.take(
                driver, request.mode, request.account_id, request.category
            )
        return wait.seconds if isinstance(wait, Exhausted) else wait

"""The SQL of budgets. Rows are locked in one order: the account's, then the app's."""

from datetime import datetime
from uuid import UUID

from services.publisher.delivery.budgets.rules import (
    BudgetLimits,
    BudgetRule,
    BudgetState,
    Exhausted,
    account_rule,
    app_rule,
    lower,
    take,
)
from services.publisher.delivery.model import APP, Category
from services.publisher.delivery.ports import Postponed
from shared.pinterest.model import RateLimits
from shared.postgres.database import Database, DriverConnection, driver_connection

# The app has one bucket for both categories, so its row of org_read is not used
_LOCK = """
    select clock_timestamp(), level, refilled_at, blocked_until, day_started_at, used
    from publisher.pinterest_budgets
    where mode = %s and account_id = %s and category = %s
    for update
"""
_INSERT = """
    insert into publisher.pinterest_budgets (mode, account_id, category, level)
    values (%s, %s, %s, %s) on conflict do nothing
"""
_UPDATE = """
    update publisher.pinterest_budgets
    set level = %s, refilled_at = %s, blocked_until = %s, day_started_at = %s, used = %s
    where mode = %s and account_id = %s and category = %s
"""
# Only a row that allows more than Pinterest is locked: usually none
_IS_ABOVE = """
    select from publisher.pinterest_budgets
    where mode = %s and account_id = %s and category = %s
        and least(%s, level + %s * extract(epoch from clock_timestamp() - refilled_at)) > %s
"""
_GIVE_BACK = """
    update publisher.pinterest_budgets set used = used - 1
    where mode = %s and account_id = any(%s) and category = %s and used > 0
"""

Key = tuple[str, UUID, str]


class Budgets:
    """Takes requests from the budgets of accounts and of the app."""

    def __init__(self, limits: BudgetLimits) -> None:
        self._limits = limits

    async def take(
        self,
        driver: DriverConnection,
        mode: str,
        account_id: UUID,
        category: Category,
        *,
        pins: int = 0,
    ) -> float | Exhausted:
        """Takes one request, in the caller's transaction. `pins` counts for the account's day.

        Returns 0 if it may be sent; otherwise the seconds to wait, or Exhausted, and takes nothing.
        """
        account = (mode, account_id, str(category))
        rule = account_rule(self._limits, category)
        state, now = await self._lock(driver, account, rule)
        taken = take(state, rule, now, units=pins)
        if not isinstance(taken, BudgetState):
            return taken
        app = (mode, APP, str(Category.WRITE))
        app_state, now = await self._lock(driver, app, app_rule(self._limits))
        is_write = category is Category.WRITE
        of_app = take(app_state, app_rule(self._limits), now, units=int(is_write), is_app=True)
        if not isinstance(of_app, BudgetState):
            return of_app
        async with driver.pipeline():
            await driver.execute(_UPDATE, (*taken, *account))
            await driver.execute(_UPDATE, (*of_app, *app))
        return 0.0

    async def give_back(self, driver: DriverConnection, mode: str, account_id: UUID) -> None:
        """Gives a pin back to the day's quotas, because it was surely not made."""
        accounts = [account_id, APP] if self._limits.app_writes_per_day else [account_id]
        await driver.execute(_GIVE_BACK, (mode, accounts, str(Category.WRITE)))

    async def feed(
        self,
        driver: DriverConnection,
        mode: str,
        account_id: UUID,
        category: Category,
        limits: RateLimits,
    ) -> None:
        """Lowers an account's budget to Pinterest's count."""
        account = (mode, account_id, str(category))
        rule = account_rule(self._limits, category)
        if limits.remaining >= rule.capacity:  # as is usual
            return
        if limits.remaining > 0:
            values = (*account, rule.capacity, rule.per_second, limits.remaining)
            if await (await driver.execute(_IS_ABOVE, values)).fetchone() is None:
                return
        state, now = await self._lock(driver, account, rule)
        await driver.execute(_UPDATE, (*lower(state, rule, limits, now), *account))

    async def _lock(
        self, driver: DriverConnection, key: Key, rule: BudgetRule
    ) -> tuple[BudgetState, datetime]:
        """Locks a budget. Returns it and the database's time after the lock."""
        row = await (await driver.execute(_LOCK, key)).fetchone()
        if row is None:
            await driver.execute(_INSERT, (*key, rule.capacity))
            row = await (await driver.execute(_LOCK, key)).fetchone()
        if row is None:  # deleted in between, which nothing does
            raise AssertionError("The budget was deleted.")
        now, *values = row
        return BudgetState(*values), now


class BudgetGate:
    """Takes single requests in transactions of their own, for parts that have none open."""

    def __init__(self, database: Database, budgets: Budgets, mode: str) -> None:
        self._database = database
        self._budgets = budgets
        self._mode = mode

    async def require(self, account_id: UUID, category: Category) -> None:
        """Takes one request. Raises Postponed if it has to wait."""
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            wait = await self._budgets.take(driver, self._mode, account_id, category)
        seconds = wait.seconds if isinstance(wait, Exhausted) else wait
        if seconds > 0:
            raise Postponed(seconds)

    async def feed(self, account_id: UUID, category: Category, limits: RateLimits) -> None:
        """Lowers the account's budget to Pinterest's count."""
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            await self._budgets.feed(driver, self._mode, account_id, category, limits)

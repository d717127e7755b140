"""The SQL of budgets. Rows are locked in one order: the account's, then the app's.

All accounts share the app's row. So a pin does not lock it: the search takes the app's requests for
all accounts that it leases. Only the app's changes of a day are counted with each pin, if the
operator has limited them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncCursor

from services.publisher.delivery.budgets.rules import (
    BudgetLimits,
    BudgetRule,
    BudgetState,
    Exhausted,
    account_rule,
    app_rule,
    charge,
    count_available,
    lower,
    take,
)
from services.publisher.delivery.model import APP, Postponed
from shared.pinterest.model import Category, RateLimits
from shared.postgres.database import Database, DriverConnection, driver_connection

_LOCK = """
    select clock_timestamp(), level, refilled_at, blocked_until, day_started_at, used
    from publisher.pinterest_budgets
    where mode = %s and account_id = %s and category = %s
    for update
"""
_READ = _LOCK.removesuffix("for update\n")
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
        self, driver: DriverConnection, mode: str, account_id: UUID, category: Category
    ) -> float | Exhausted:
        """Takes one request, in the caller's transaction.

        Returns 0 if it may be sent; otherwise the seconds to wait, or Exhausted, and takes nothing.
        """
        is_write = category is Category.WRITE
        locked = [
            await self._lock_account(driver, mode, account_id, category),
            await self._lock_app(driver, mode, units=int(is_write), requests=1),
        ]
        return await self.take_locked(driver, locked)

    async def lock_for_pin(
        self, driver: DriverConnection, mode: str, account_id: UUID
    ) -> list["LockedBudget"]:
        """Locks the budgets of one pin for `take_locked`. In a pipeline, it waits for no answer.

        The search has already taken the app's request.
        """
        locked = [await self._lock_account(driver, mode, account_id, Category.WRITE, units=1)]
        if self._limits.app_writes_per_day:
            locked.append(await self._lock_app(driver, mode, units=1, requests=0))
        return locked

    async def take_locked(
        self, driver: DriverConnection, budgets: Sequence["LockedBudget"]
    ) -> float | Exhausted:
        """Takes one request from all of these budgets, or from none. Returns as `take`."""
        changes = []
        for budget in budgets:
            state, now = await self._read_locked(driver, budget)
            taken = take(
                state,
                budget.rule,
                now,
                units=budget.units,
                requests=budget.requests,
                is_app=budget.key[1] == APP,
            )
            if not isinstance(taken, BudgetState):
                return taken
            changes.append((*taken, *budget.key))
        for values in changes:
            await driver.execute(_UPDATE, values, binary=True)
        return 0.0

    async def count_app_requests(self, driver: DriverConnection, mode: str) -> int:
        """Returns how many requests of all accounts may be sent at once now. Locks nothing."""
        rule = app_rule(self._limits)
        row = await (await driver.execute(_READ, _app_key(mode), binary=True)).fetchone()
        if row is None:
            return int(rule.capacity)
        now, *values = row
        return count_available(BudgetState(*values), rule, now)

    async def charge_app(self, driver: DriverConnection, mode: str, requests: int) -> None:
        """Takes requests of the app for accounts that were leased.

        What is not used is counted nevertheless: the bucket refills within a second.
        """
        budget = await self._lock_app(driver, mode, units=0, requests=requests)
        state, now = await self._read_locked(driver, budget)
        charged = charge(state, budget.rule, now, requests)
        await driver.execute(_UPDATE, (*charged, *budget.key), binary=True)

    async def give_back(self, driver: DriverConnection, mode: str, account_id: UUID) -> None:
        """Gives a pin that was surely not made back to the day's quotas."""
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
        budget = await self._lock_account(driver, mode, account_id, category)
        state, now = await self._read_locked(driver, budget)
        await driver.execute(_UPDATE, (*lower(state, rule, limits, now), *account), binary=True)

    async def _lock_account(
        self,
        driver: DriverConnection,
        mode: str,
        account_id: UUID,
        category: Category,
        *,
        units: int = 0,
    ) -> "LockedBudget":
        key, rule = (mode, account_id, str(category)), account_rule(self._limits, category)
        cursor = await driver.execute(_LOCK, key, binary=True)
        return LockedBudget(key, rule, units, 1, cursor)

    async def _lock_app(
        self, driver: DriverConnection, mode: str, *, units: int, requests: int
    ) -> "LockedBudget":
        key = _app_key(mode)
        cursor = await driver.execute(_LOCK, key, binary=True)
        return LockedBudget(key, app_rule(self._limits), units, requests, cursor)

    async def _read_locked(
        self, driver: DriverConnection, budget: "LockedBudget"
    ) -> tuple[BudgetState, datetime]:
        """Returns a locked budget, and the database's time after the lock."""
        row = await budget.cursor.fetchone()
        if row is None:
            await driver.execute(_INSERT, (*budget.key, budget.rule.capacity))
            row = await (await driver.execute(_LOCK, budget.key, binary=True)).fetchone()
        if row is None:  # deleted in between, which nothing does
            raise AssertionError("The budget was deleted.")
        now, *values = row
        return BudgetState(*values), now


class LockedBudget(NamedTuple):
    """A budget whose row is locked, or is missing, and what is to be taken from it."""

    key: Key
    rule: BudgetRule
    units: int
    requests: int
    cursor: AsyncCursor[Any]
    """The result of the lock, which may not have arrived yet."""


def _app_key(mode: str) -> Key:
    """Returns the key of the app's bucket, which is one for both categories."""
    return (mode, APP, str(Category.WRITE))


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

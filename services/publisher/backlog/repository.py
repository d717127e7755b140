"""Reads the backlog of deliveries and the budgets at Pinterest."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text

from services.publisher.delivery.budgets.rules import BudgetState
from services.publisher.delivery.model import APP
from shared.access.connection_health import GIVEN_UP, RECONNECT_CODES
from shared.pinterest.model import Category
from shared.postgres.database import Database
from shared.postgres.row import Row

# An attempt is in doubt if its answer was lost, or if its sender ended without writing anything.
# The attempts are found by their indexes. One probe of pins_queue finds out whether an account has
# queued pins, and only then are they counted: if nearly all pins are of one account, Postgres reads
# the whole table to count. For 500 accounts and 200 000 pins that took 9 s. The gaps are those
# between the last 30 attempts of ten minutes: the speed may have changed before
_SELECT_ACCOUNTS = text("""
    select c.account_id, now() as now,
        c.disconnected_at is not null or c.mode <> :mode as is_disconnected,
        a.paused_until, a.pause_code, a.pause_message, a.next_at,
        q.queued, q.oldest_queued_at, q.waiting, q.next_deliver_after, q.last_deliver_after,
        d.publishing, d.last_first_look_at, d.last_second_look_at, g.gaps,
        b.level, b.refilled_at, b.blocked_until, b.day_started_at, b.used
    from access.connections c
    left join publisher.delivery_accounts a on a.account_id = c.account_id
    left join publisher.pinterest_budgets b
        on b.mode = :mode and b.account_id = c.account_id and b.category = :category
    left join lateral (
        select true as has_pins from publisher.pins p
        where p.account_id = c.account_id and p.state = 'queued' and p.deleted_at is null
        order by p.run_at, p.created_at, p.pin_id
        limit 1
    ) head on true
    cross join lateral (
        select count(*) as queued, min(greatest(created_at, run_at)) as oldest_queued_at,
            count(*) filter (where deliver_after > now()) as waiting,
            min(deliver_after) filter (where deliver_after > now()) as next_deliver_after,
            max(deliver_after) filter (where deliver_after > now()) as last_deliver_after
        from publisher.pins p
        where head.has_pins and p.account_id = c.account_id and p.state = 'queued'
            and p.deleted_at is null
    ) q
    cross join lateral (
        select count(*) as publishing,
            max(look_at) filter (where absent_at is null) as last_first_look_at,
            max(look_at) filter (where absent_at is not null) as last_second_look_at
        from (
            select absent_at, case
                when next_look_at is not null or deadline_at <= now()
                then coalesce(next_look_at, deadline_at)
            end as look_at
            from publisher.delivery_attempts t
            where t.account_id = c.account_id and t.outcome is null
        ) unsettled
    ) d
    cross join lateral (
        select coalesce(array_agg(extract(epoch from gap)::float8), '{}') as gaps from (
            select started_at - lag(started_at) over (order by started_at) as gap from (
                select started_at from publisher.delivery_attempts t
                where t.account_id = c.account_id and started_at > now() - interval '10 minutes'
                order by started_at desc limit 30
            ) latest
        ) gaps where gap is not null
    ) g
    where c.workspace_id = :workspace_id
        and (cast(:permitted as uuid[]) is null or c.account_id = any(cast(:permitted as uuid[])))
    order by c.account_id
""")
# Accounts share the app if their pins wait, or if they were served lately: while the app is paused,
# none is served. An account that its user has to connect again does not: the delivery process sends
# nothing of it either. An account takes at most one probe of pins_queue, however many pins wait
_SELECT_APP = text("""
    select now() as now, a.paused_until, a.pause_code, a.pause_message,
        b.level, b.refilled_at, b.blocked_until, b.day_started_at, b.used,
        (
            select count(*) from access.connections c
            left join publisher.delivery_accounts d on d.account_id = c.account_id
            left join publisher.pinterest_budgets s
                on s.mode = :mode and s.account_id = c.account_id and s.category = :category
            where c.mode = :mode and c.disconnected_at is null
                and coalesce(c.health_code <> all(cast(:given_up as text[])), true)
                and not coalesce(
                    d.paused_until > now() and d.pause_code = any(cast(:reconnect as text[])), false
                )
                and (
                    s.refilled_at > now() - interval '10 minutes'
                    or (
                        select true from publisher.pins p
                        where p.account_id = c.account_id and p.state = 'queued'
                            and p.deleted_at is null
                        order by p.run_at, p.created_at, p.pin_id
                        limit 1
                    )
                )
        ) as sharing_accounts
    from (select 1) one
    left join publisher.delivery_apps a on a.mode = :mode and a.paused_until > now()
    left join publisher.pinterest_budgets b
        on b.mode = :mode and b.account_id = :app and b.category = :category
""")
_SELECT_BUDGETS = text("""
    select c.account_id, now() as now, b.level, b.refilled_at, b.blocked_until, b.day_started_at,
        b.used
    from (
        select account_id from access.connections
        where account_id = :account_id and workspace_id = :workspace_id
        union all select cast(:app as uuid)
    ) c
    left join publisher.pinterest_budgets b
        on b.mode = :mode and b.account_id = c.account_id and b.category = :category
""")


class StoredBudget(NamedTuple):
    """A budget as it was last used. `state` is None if it was never used."""

    now: datetime
    state: BudgetState | None

    @classmethod
    def from_row(cls, row: Row) -> "StoredBudget":
        if row["level"] is None:
            return cls(row["now"], None)
        return cls(row["now"], BudgetState(**{name: row[name] for name in BudgetState._fields}))


class BacklogRepository:
    """Reads the backlog. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database, mode: str) -> None:
        self._database = database
        self._values: dict[str, Any] = {"mode": mode, "category": str(Category.WRITE)}

    async def read_accounts(
        self, workspace_id: UUID, permitted: Collection[UUID] | None
    ) -> list[Row]:
        """Reads the accounts of a workspace that were ever connected, with their queues."""
        ids = None if permitted is None else list(permitted)
        values = {**self._values, "workspace_id": workspace_id, "permitted": ids}
        return await self._database.fetch_all(_SELECT_ACCOUNTS.bindparams(**values))

    async def read_app(self) -> Row:
        """Reads the app's pause and budget, and how many accounts share it."""
        values = {
            **self._values,
            "app": APP,
            "given_up": [str(code) for code in GIVEN_UP],
            "reconnect": [str(code) for code in RECONNECT_CODES],
        }
        row = await self._database.fetch_first(_SELECT_APP.bindparams(**values))
        if row is None:
            raise AssertionError("The statement always has one row.")
        return row

    async def read_budgets(self, workspace_id: UUID, account_id: UUID) -> dict[UUID, StoredBudget]:
        """Reads the budgets of a connected account and of the app, by the account's id or APP.

        The account is missing if it was never connected.
        """
        values = {
            **self._values,
            "workspace_id": workspace_id,
            "account_id": account_id,
            "app": APP,
        }
        rows = await self._database.fetch_all(_SELECT_BUDGETS.bindparams(**values))
        return {row["account_id"]: StoredBudget.from_row(row) for row in rows}

"""The search for accounts to serve, and their leases.

A loose index scan finds the accounts with queued pins: one probe of the index pins_queue for each
account, however many pins it has. So the backlog of one account delays no other.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from services.publisher.delivery.accounts.pauses import AppState, judge_app
from services.publisher.delivery.accounts.statements import read_app, release_leases
from services.publisher.delivery.budgets.repository import Budgets
from services.publisher.delivery.model import AccountLease, FinishedTurn
from shared.contract.errors import ErrorCode
from shared.postgres.arrays import Column
from shared.postgres.database import Database, DriverConnection, driver_connection

SKIPPED_PINS = 1000
"""Maximum pins at the head of an account's queue that the search looks at. If each of them waits
for a cause of its own, the pins behind them wait, too."""
PINS = "pins"
"""The name of queued pins among the work of a lease."""


class Source(NamedTuple):
    """Work that is found by its own SQL, beside queued pins.

    It is also served while the app is paused for new pins only.
    """

    name: str
    """The name of the work in AccountLease.work."""
    sql: str
    """Selects account_id and workspace_id of accounts with work that is due. May use %(mode)s."""
    codes: tuple[ErrorCode, ...]
    """The codes of an account's pauses during which this work goes on."""


# The conditions on leases and pauses come before the probe of the queue, because only that reads
# pins. The last column is the search's duration. If no account is found, a row of nulls has it
_SEARCH = """
    with recursive queued as (
        (
            select account_id, workspace_id from publisher.pins
            where state = 'queued' and deleted_at is null
            order by account_id limit 1
        )
        union all
        select following.account_id, following.workspace_id
        from queued cross join lateral (
            select account_id, workspace_id from publisher.pins
            where state = 'queued' and deleted_at is null and account_id > queued.account_id
            order by account_id limit 1
        ) following
    ), found (account_id, workspace_id, source, codes) as (
        select account_id, workspace_id, '{pins}', array[]::text[] from queued where %(creates)s
        {sources}
    ), due as materialized (
        select f.account_id, (array_agg(f.workspace_id))[1] as workspace_id,
            array_agg(f.source) as sources, a.served_at
        from found f left join publisher.delivery_accounts a using (account_id)
        where (a.lease_until is null or a.lease_until <= clock_timestamp())
            and (a.next_at is null or a.next_at <= clock_timestamp())
            and (
                a.paused_until is null or a.paused_until <= clock_timestamp()
                or a.pause_code = any(f.codes)
            )
            and (
                f.source <> '{pins}'
                or exists (
                    select from (
                        select deliver_after from publisher.pins p
                        where p.account_id = f.account_id and p.state = 'queued'
                            and p.deleted_at is null
                        order by p.run_at, p.created_at, p.pin_id
                        limit %(skipped)s
                    ) head
                    where head.deliver_after is null or head.deliver_after <= clock_timestamp()
                )
            )
        group by f.account_id, a.served_at
    )
    select chosen.*, extract(epoch from clock_timestamp() - statement_timestamp())::float8
    from (select) always left join (
        select account_id, workspace_id, sources
        from due
        left join (
            select workspace_id, count(*) as leases from publisher.delivery_accounts
            where lease_until > clock_timestamp() group by workspace_id
        ) served using (workspace_id)
        order by
            coalesce(leases, 0) + row_number() over (
                partition by workspace_id order by served_at nulls first, account_id
            ),
            served_at nulls first,
            account_id
        limit %(limit)s
    ) chosen on true
"""
# Two searches may find the same account: the second waits for the first one's row, and then
# updates nothing
_LEASE = """
    insert into publisher.delivery_accounts as a (
        account_id, workspace_id, lease_fence, lease_until
    )
    select account_id, workspace_id, 1, clock_timestamp() + %s * interval '1 second'
    from unnest(%b::uuid[], %b::uuid[]) as found(account_id, workspace_id)
    order by account_id
    on conflict (account_id) do update
    set lease_fence = a.lease_fence + 1, lease_until = excluded.lease_until
    where a.lease_until is null or a.lease_until <= clock_timestamp()
    returning account_id, workspace_id, lease_fence, lease_until
"""


class LeaseRepository:
    """Leases accounts and releases them. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(
        self,
        database: Database,
        budgets: Budgets,
        mode: str,
        sources: Sequence[Source],
        *,
        lease_seconds: float,
    ) -> None:
        self._database = database
        self._budgets = budgets
        self._mode = mode
        self._lease_seconds = lease_seconds
        self.search_seconds = 0.0
        """The time that the last search took in Postgres."""
        self._search = _SEARCH.format(
            pins=PINS,
            sources="".join(
                f"union all select account_id, workspace_id, '{source.name}', "
                f"'{{{','.join(source.codes)}}}'::text[] "
                f"from ({source.sql}) s{number}\n"
                for number, source in enumerate(sources)
            ),
        )

    async def exchange(
        self, finished: Sequence[FinishedTurn], free_slots: int
    ) -> list[AccountLease]:
        """Releases the leases of finished turns, and leases at most `free_slots` other accounts.

        Accounts of different workspaces alternate. Of one workspace, the one comes first that was
        served least recently. Takes a request of the app for each account with pins.
        """
        self.search_seconds = 0.0
        async with self._database.pipeline() as driver:
            await release_leases(driver, finished)
            if free_slots <= 0:
                return []
            state = await self._read_app_state(driver)
            if state is AppState.PAUSED:
                return []
            requests = await self._budgets.count_app_requests(driver, self._mode)
            leases = await self._lease(driver, state, min(free_slots, requests))
            if pins := sum(PINS in lease.work for lease in leases):
                await self._budgets.charge_app(driver, self._mode, pins)
            return leases

    async def release(self, finished: Sequence[FinishedTurn]) -> None:
        """Releases the leases of finished turns."""
        async with self._database.transaction() as connection:
            await release_leases(await driver_connection(connection), finished)

    async def _read_app_state(self, driver: DriverConnection) -> AppState:
        now, pause = await read_app(driver, self._mode)
        return judge_app(now, pause)

    async def _lease(
        self, driver: DriverConnection, state: AppState, limit: int
    ) -> list[AccountLease]:
        if limit == 0:
            return []
        cursor = await driver.execute(
            self._search,
            {
                "mode": self._mode,
                "creates": state is not AppState.PAUSED_FOR_PINS,
                "skipped": SKIPPED_PINS,
                "limit": 1 if state is AppState.PROBING else limit,
            },
        )
        found: list[tuple[UUID | None, UUID, list[str], float]] = await cursor.fetchall()
        account_ids, workspace_ids, sources, seconds = zip(*found, strict=True)
        self.search_seconds = seconds[-1]
        if account_ids[0] is None:
            return []
        columns = [Column("uuid", account_ids), Column("uuid", workspace_ids)]
        cursor = await driver.execute(_LEASE, [self._lease_seconds, *columns])
        work = dict(zip(account_ids, sources, strict=True))
        return [
            AccountLease(account_id, workspace_id, fence, until, frozenset(work[account_id]))
            for account_id, workspace_id, fence, until in await cursor.fetchall()
        ]

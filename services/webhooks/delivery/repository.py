"""Finds subscriptions, stores deliveries, claims those that are due, and records results."""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from sqlalchemy import text

from services.webhooks.delivery.model import (
    AttemptResult,
    Capacity,
    ClaimedDelivery,
    DisabledReason,
    DisabledWebhook,
    EnabledWebhook,
    InFlight,
    NewDelivery,
)
from services.webhooks.delivery.policy import DisablePolicy
from shared.kafka.positions.advance import Advance
from shared.kafka.positions.store import PositionStore
from shared.postgres.arrays import Column, column_names, to_columns, unnest
from shared.postgres.database import Database
from shared.runtime.chunks import chunked

MAX_ENQUEUED = 5000
"""Deliveries of one transaction."""
HIGHEST_ID = UUID(int=2**128 - 1)
DELIVERY_COLUMNS = (
    ("webhook_id", "uuid"),
    ("delivery_id", "uuid"),
    ("event_id", "text"),
    ("event_type", "text"),
    ("body", "text"),
)
IN_FLIGHT_COLUMNS = (("webhook_id", "uuid"), ("workspace_id", "uuid"), ("requests", "int4"))
RESULT_COLUMNS = (
    ("webhook_id", "uuid"),
    ("delivery_id", "uuid"),
    ("tries", "int4"),
    ("status", "text"),
    ("pause_ms", "int8"),
    ("status_code", "int4"),
    ("error", "text"),
    ("gone", "bool"),
)

ACTIVE_SUBSCRIPTIONS = """
    select workspace_id, webhook_id, events, created_at from webhooks.endpoints
    where workspace_id = any(%b::uuid[]) and is_enabled
"""

HAS_ACTIVE_SUBSCRIPTIONS = text(
    "select exists (select from webhooks.endpoints where is_enabled) as is_so"
)

# Deliveries of an event that is announced again, or of a batch that is read again, exist already.
# Sorted, or two overlapping batches deadlock. Without a conflict target: the same event makes the
# same delivery id, so either constraint may see the other transaction's row first
ENQUEUE = f"""
    insert into webhooks.deliveries ({column_names(DELIVERY_COLUMNS)})
    select * from {unnest(DELIVERY_COLUMNS)} as d({column_names(DELIVERY_COLUMNS)})
    order by d.webhook_id, d.event_id
    on conflict do nothing
"""

# Finds the webhooks that have deliveries, each by one step in an index, however many deliveries it
# has (a loose index scan, which Postgres does not plan by itself)
_WITH_DELIVERIES = """
    {name} as (
        (select webhook_id from webhooks.deliveries {where} order by webhook_id limit 1)
        union all
        select (
            select d.webhook_id from webhooks.deliveries d
            {where} {and_} d.webhook_id > w.webhook_id order by d.webhook_id limit 1
        )
        from {name} w where w.webhook_id is not null
    )
"""
_WAITING = _WITH_DELIVERIES.format(name="waiting", where="where status = 'pending'", and_="and")
_KNOWN = _WITH_DELIVERIES.format(name="known", where="", and_="where")

# Claims each webhook's oldest due deliveries, within the limits. Order: webhooks with the fewest
# failed attempts, then workspaces with the fewest requests claimed or in flight, then age. With age
# alone, backlogs of hanging receivers would take every slot that becomes free. Only the chosen rows
# are locked; rows that another worker has locked are skipped. A claim sets next_attempt_at to the
# end of the lease, so a dead worker only delays a delivery
CLAIM = f"""
    with recursive {_WAITING}, busy as (
        select * from {unnest(IN_FLIGHT_COLUMNS)} as b({column_names(IN_FLIGHT_COLUMNS)})
    ), due as (
        select e.webhook_id, e.workspace_id, e.failed_attempts, d.next_attempt_at,
            coalesce(b.requests, 0)
                + row_number() over (partition by e.webhook_id order by d.next_attempt_at) as turn
        from waiting w
        join webhooks.endpoints e on e.webhook_id = w.webhook_id and e.is_enabled
        left join busy b on b.webhook_id = w.webhook_id
        cross join lateral (
            select next_attempt_at from webhooks.deliveries
            where webhook_id = w.webhook_id and status = 'pending' and next_attempt_at <= now()
            order by next_attempt_at limit %b::int4
        ) d
    ), shared as (
        select d.*, row_number() over (
                partition by d.workspace_id order by d.failed_attempts, d.turn, d.next_attempt_at
            ) + coalesce(
                (select sum(b.requests) from busy b where b.workspace_id = d.workspace_id), 0
            ) as workspaces_turn
        from due d where d.turn <= case when d.failed_attempts > 0 then 1 else %b::int4 end
    ), placed as (
        select *, row_number() over (
            partition by failed_attempts > 0
            order by failed_attempts, workspaces_turn, next_attempt_at
        ) as place
        from shared where workspaces_turn <= %b::int4
    ), chosen as (
        select webhook_id, count(*) as deliveries from (
            select webhook_id from placed where failed_attempts = 0 or place <= %b::int4
            order by failed_attempts, workspaces_turn, next_attempt_at limit %b::int4
        ) c
        group by webhook_id
    ), locked as (
        select d.*, e.url, e.secret, e.workspace_id, e.failed_attempts > 0 as failing
        from chosen c
        join webhooks.endpoints e on e.webhook_id = c.webhook_id
        cross join lateral (
            select webhook_id, delivery_id from webhooks.deliveries
            where webhook_id = c.webhook_id and status = 'pending' and next_attempt_at <= now()
            order by next_attempt_at limit c.deliveries for update skip locked
        ) d
        limit %b::int4 -- there are no more, but the planner does not know
    )
    update webhooks.deliveries d set next_attempt_at = now() + %b::float8 * interval '1 second'
    from locked l where d.webhook_id = l.webhook_id and d.delivery_id = l.delivery_id
    returning d.webhook_id, d.delivery_id, d.event_id, d.event_type, d.body, d.tries,
        l.url, l.secret, l.workspace_id, l.failing
"""

# A success counts unless one is recorded already, however late. A failure counts only if no result
# was recorded since the claim: two workers may have tried, if a lease was too short
RECORD = f"""
    with told as (
        select * from {unnest(RESULT_COLUMNS)} as t({column_names(RESULT_COLUMNS)})
    ), recorded as (
        update webhooks.deliveries d set
            status = t.status,
            tries = d.tries + 1,
            attempt_count = d.attempt_count + 1,
            last_status_code = t.status_code,
            last_error = t.error,
            next_attempt_at = case when t.status = 'pending'
                then now() + t.pause_ms * interval '1 millisecond' end,
            updated_at = now()
        from told t
        where d.webhook_id = t.webhook_id and d.delivery_id = t.delivery_id
            and d.status <> 'delivered'
            and (t.status = 'delivered' or (d.status = 'pending' and d.tries = t.tries))
        returning d.webhook_id, t.status, t.gone
    ), counted as (
        select webhook_id, bool_or(status = 'delivered') as delivered,
            count(*) filter (where status = 'failed') as failed,
            count(*) filter (where status <> 'delivered') as failed_attempts,
            bool_or(gone) as gone
        from recorded group by webhook_id
    ), locked as materialized (
        select e.webhook_id, e.is_enabled as was_enabled, c.gone,
            case when c.delivered then 0 else e.failures_in_a_row + c.failed end as failures,
            case when c.delivered then 0 else e.failed_attempts + c.failed_attempts end
                as failed_attempts,
            case when not c.delivered then coalesce(e.failing_since, now()) end as failing_since
        from webhooks.endpoints e join counted c on c.webhook_id = e.webhook_id
        where c.failed_attempts > 0 or e.failed_attempts > 0
        order by e.webhook_id for update of e
    ), judged as (
        select *, failures >= %b::int4
            or (
                failed_attempts >= %b::int4
                and failing_since <= now() - %b::float8 * interval '1 second'
            ) as failing
        from locked
    )
    update webhooks.endpoints e set
        failures_in_a_row = j.failures,
        failed_attempts = j.failed_attempts,
        failing_since = j.failing_since,
        is_enabled = e.is_enabled and not j.gone and not j.failing,
        disabled_reason = case
            when not e.is_enabled then e.disabled_reason
            when j.gone then 'gone'
            when j.failing then 'failing'
        end,
        updated_at = case
            when e.is_enabled and (j.gone or j.failing) then now() else e.updated_at
        end
    from judged j where e.webhook_id = j.webhook_id
    returning e.webhook_id, e.workspace_id, e.disabled_reason, j.was_enabled and not e.is_enabled
"""

# Deletes at most :most: all deliveries of deleted webhooks, and the old ones of the others
CLEAN = text(f"""
    with recursive {_KNOWN}, old as (
        select d.webhook_id, d.delivery_id from known k
        left join webhooks.endpoints e on e.webhook_id = k.webhook_id
        cross join lateral (
            select webhook_id, delivery_id from webhooks.deliveries
            where webhook_id = k.webhook_id and delivery_id < case
                when e.webhook_id is null then cast(:all as uuid) else :kept_from
            end
            order by delivery_id limit :most
        ) d
        limit :most
    )
    delete from webhooks.deliveries d using old o
    where d.webhook_id = o.webhook_id and d.delivery_id = o.delivery_id
""")

OLDEST_DUE = text(f"""
    with recursive {_WAITING}
    select extract(epoch from now() - min(d.next_attempt_at))::float8 as seconds
    from waiting w
    join webhooks.endpoints e on e.webhook_id = w.webhook_id and e.is_enabled
    cross join lateral (
        select next_attempt_at from webhooks.deliveries
        where webhook_id = w.webhook_id and status = 'pending' order by next_attempt_at limit 1
    ) d
""")


class DeliveryRepository:
    """Raises DatabaseUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.positions = PositionStore(database, "webhooks")

    async def enabled_webhooks(
        self, workspace_ids: Collection[UUID]
    ) -> dict[UUID, list[EnabledWebhook]]:
        """Returns the enabled webhooks of these workspaces. A workspace without any is absent."""
        found: dict[UUID, list[EnabledWebhook]] = {}
        async with self._database.pipeline() as driver:
            cursor = await driver.execute(
                ACTIVE_SUBSCRIPTIONS, [Column("uuid", list(workspace_ids))]
            )
            for workspace_id, webhook_id, events, created_at in await cursor.fetchall():
                found.setdefault(workspace_id, []).append(
                    EnabledWebhook(webhook_id, frozenset(events), created_at)
                )
        return found

    async def has_enabled_webhook(self) -> bool:
        """Tells whether any workspace has an enabled webhook."""
        row = await self._database.fetch_first(HAS_ACTIVE_SUBSCRIPTIONS)
        return row is not None and bool(row["is_so"])

    async def enqueue(self, deliveries: Sequence[NewDelivery], advance: Advance) -> int:
        """Stores new deliveries, MAX_ENQUEUED in a transaction. Returns how many did not exist yet.

        Each transaction holds the batch's positions. Raises PositionBehind.
        """
        stored = 0
        for chunk in chunked(deliveries, MAX_ENQUEUED):
            async with self._database.pipeline() as driver:
                await self.positions.lock(driver, advance, moves=False)
                cursor = await driver.execute(ENQUEUE, to_columns(DELIVERY_COLUMNS, chunk))
                await driver.commit()
            stored += cursor.rowcount
        return stored

    async def claim(
        self, capacity: Capacity, in_flight: Iterable[InFlight], lease_seconds: float
    ) -> list[ClaimedDelivery]:
        """Claims due deliveries, as many as the capacity allows beside those in flight."""
        limits = (
            capacity.per_webhook,
            capacity.per_webhook,
            capacity.per_workspace,
            capacity.free_failing,
            capacity.free,
            capacity.free,
        )
        async with self._database.pipeline() as driver:
            cursor = await driver.execute(
                CLAIM, [*to_columns(IN_FLIGHT_COLUMNS, in_flight), *limits, lease_seconds]
            )
            await driver.commit()
            return [ClaimedDelivery(*row) for row in await cursor.fetchall()]

    async def record(
        self, results: Sequence[AttemptResult], policy: DisablePolicy
    ) -> list[DisabledWebhook]:
        """Records results of attempts. Returns the webhooks that were disabled for them."""
        values = [*to_columns(RESULT_COLUMNS, results), *policy]
        async with self._database.pipeline() as driver:
            cursor = await driver.execute(RECORD, values)
            await driver.commit()
            rows = await cursor.fetchall()
        return [
            DisabledWebhook(webhook_id, workspace_id, DisabledReason(reason))
            for webhook_id, workspace_id, reason, is_news in rows
            if is_news
        ]

    async def clean(self, kept_from: UUID, limit: int) -> int:
        """Deletes deliveries below the id or of deleted webhooks, at most `limit`.

        Returns how many it deleted.
        """
        values = {"kept_from": kept_from, "all": HIGHEST_ID, "most": limit}
        async with self._database.transaction() as connection:
            return (await connection.execute(CLEAN, values)).rowcount

    async def oldest_due_seconds(self) -> float:
        """Returns how long the longest-waiting delivery has been due."""
        row = await self._database.fetch_first(OLDEST_DUE)
        return max(0.0, (row and row["seconds"]) or 0.0)

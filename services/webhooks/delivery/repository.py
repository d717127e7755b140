"""Finds enabled webhooks, stores deliveries, claims due ones, and records results."""

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

MAX_ENQUEUED_DELIVERIES = 5000
"""Maximum deliveries that one transaction stores."""
MAX_ID = UUID(int=2**128 - 1)
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
    ("is_gone", "bool"),
)

SELECT_ENABLED_WEBHOOKS = """
    select workspace_id, webhook_id, events, created_at from webhooks.endpoints
    where workspace_id = any(%b::uuid[]) and is_enabled
"""

HAS_ENABLED_WEBHOOK = text(
    "select exists (select from webhooks.endpoints where is_enabled) as has_any"
)

# A delivery already exists if its event was announced again or its batch was read again. The order
# prevents deadlocks between overlapping batches. There is no conflict target, because an event
# conflicts on both unique constraints, and either may see the other transaction's row first
ENQUEUE = f"""
    insert into webhooks.deliveries ({column_names(DELIVERY_COLUMNS)})
    select * from {unnest(DELIVERY_COLUMNS)} as d({column_names(DELIVERY_COLUMNS)})
    order by d.webhook_id, d.event_id
    on conflict do nothing
"""

# Finds the webhooks that have deliveries, with one index step for each webhook (a loose index scan,
# which Postgres does not plan automatically)
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
_WITH_PENDING = _WITH_DELIVERIES.format(
    name="with_pending", where="where status = 'pending'", and_="and"
)
_WITH_ANY = _WITH_DELIVERIES.format(name="with_any", where="", and_="where")

# Claims each webhook's oldest due deliveries, within the limits. Webhooks with the fewest failed
# attempts come first, then workspaces with the fewest requests claimed or in flight, then the
# oldest deliveries. By age alone, backlogs of hanging receivers would take every free slot. Only
# the chosen rows are locked; rows that another worker has locked are skipped. A claim sets
# next_attempt_at to the end of the claim, so a dead worker only delays a delivery
CLAIM = f"""
    with recursive {_WITH_PENDING}, in_flight as (
        select * from {unnest(IN_FLIGHT_COLUMNS)} as f({column_names(IN_FLIGHT_COLUMNS)})
    ), due as (
        select e.webhook_id, e.workspace_id, e.failed_attempts, d.next_attempt_at,
            coalesce(f.requests, 0)
                + row_number() over (partition by e.webhook_id order by d.next_attempt_at)
                as webhook_rank
        from with_pending w
        join webhooks.endpoints e on e.webhook_id = w.webhook_id and e.is_enabled
        left join in_flight f on f.webhook_id = w.webhook_id
        cross join lateral (
            select next_attempt_at from webhooks.deliveries
            where webhook_id = w.webhook_id and status = 'pending' and next_attempt_at <= now()
            order by next_attempt_at limit %b::int4
        ) d
    ), ranked as (
        select d.*, row_number() over (
                partition by d.workspace_id
                order by d.failed_attempts, d.webhook_rank, d.next_attempt_at
            ) + coalesce(
                (select sum(f.requests) from in_flight f where f.workspace_id = d.workspace_id), 0
            ) as workspace_rank
        from due d where d.webhook_rank <= case when d.failed_attempts > 0 then 1 else %b::int4 end
    ), eligible as (
        select *, row_number() over (
            partition by failed_attempts > 0
            order by failed_attempts, workspace_rank, next_attempt_at
        ) as health_rank
        from ranked where workspace_rank <= %b::int4
    ), chosen as (
        select webhook_id, count(*) as deliveries from (
            select webhook_id from eligible where failed_attempts = 0 or health_rank <= %b::int4
            order by failed_attempts, workspace_rank, next_attempt_at limit %b::int4
        ) c
        group by webhook_id
    ), locked as (
        select d.*, e.url, e.secret, e.workspace_id, e.failed_attempts > 0 as is_failing
        from chosen c
        join webhooks.endpoints e on e.webhook_id = c.webhook_id
        cross join lateral (
            select webhook_id, delivery_id from webhooks.deliveries
            where webhook_id = c.webhook_id and status = 'pending' and next_attempt_at <= now()
            order by next_attempt_at limit c.deliveries for update skip locked
        ) d
        limit %b::int4 -- changes nothing but the planner's estimate
    )
    update webhooks.deliveries d set next_attempt_at = now() + %b::float8 * interval '1 second'
    from locked l where d.webhook_id = l.webhook_id and d.delivery_id = l.delivery_id
    returning d.webhook_id, d.delivery_id, d.event_id, d.event_type, d.body, d.tries,
        l.url, l.secret, l.workspace_id, l.is_failing
"""

# A success is recorded however late, unless one is recorded already. A failure is recorded only if
# no result was recorded since the claim: if a claim was too short, two workers made an attempt
RECORD = f"""
    with results as (
        select * from {unnest(RESULT_COLUMNS)} as r({column_names(RESULT_COLUMNS)})
    ), recorded as (
        update webhooks.deliveries d set
            status = r.status,
            tries = d.tries + 1,
            attempt_count = d.attempt_count + 1,
            last_status_code = r.status_code,
            last_error = r.error,
            next_attempt_at = case when r.status = 'pending'
                then now() + r.pause_ms * interval '1 millisecond' end,
            updated_at = now()
        from results r
        where d.webhook_id = r.webhook_id and d.delivery_id = r.delivery_id
            and d.status <> 'delivered'
            and (r.status = 'delivered' or (d.status = 'pending' and d.tries = r.tries))
        returning d.webhook_id, r.status, r.is_gone
    ), counted as (
        select webhook_id, bool_or(status = 'delivered') as any_delivered,
            count(*) filter (where status = 'failed') as failed_deliveries,
            count(*) filter (where status <> 'delivered') as failed_attempts,
            bool_or(is_gone) as is_gone
        from recorded group by webhook_id
    ), locked as materialized (
        select e.webhook_id, e.is_enabled as was_enabled, c.is_gone,
            case when c.any_delivered then 0 else e.failures_in_a_row + c.failed_deliveries end
                as failed_deliveries,
            case when c.any_delivered then 0 else e.failed_attempts + c.failed_attempts end
                as failed_attempts,
            case when not c.any_delivered then coalesce(e.failing_since, now()) end as failing_since
        from webhooks.endpoints e join counted c on c.webhook_id = e.webhook_id
        where c.failed_attempts > 0 or e.failed_attempts > 0
        order by e.webhook_id for update of e
    ), evaluated as (
        select *, failed_deliveries >= %b::int4
            or (
                failed_attempts >= %b::int4
                and failing_since <= now() - %b::float8 * interval '1 second'
            ) as must_disable
        from locked
    )
    update webhooks.endpoints e set
        failures_in_a_row = v.failed_deliveries,
        failed_attempts = v.failed_attempts,
        failing_since = v.failing_since,
        is_enabled = e.is_enabled and not v.is_gone and not v.must_disable,
        disabled_reason = case
            when not e.is_enabled then e.disabled_reason
            when v.is_gone then 'gone'
            when v.must_disable then 'failing'
        end,
        updated_at = case
            when e.is_enabled and (v.is_gone or v.must_disable) then now() else e.updated_at
        end
    from evaluated v where e.webhook_id = v.webhook_id
    returning e.webhook_id, e.workspace_id, e.disabled_reason, v.was_enabled and not e.is_enabled
"""

# Deletes at most :limit deliveries: all of deleted webhooks, and the old ones of existing webhooks
DELETE_OLD = text(f"""
    with recursive {_WITH_ANY}, old as (
        select d.webhook_id, d.delivery_id from with_any w
        left join webhooks.endpoints e on e.webhook_id = w.webhook_id
        cross join lateral (
            select webhook_id, delivery_id from webhooks.deliveries
            where webhook_id = w.webhook_id and delivery_id < case
                when e.webhook_id is null then cast(:max_id as uuid) else :oldest_kept
            end
            order by delivery_id limit :limit
        ) d
        limit :limit
    )
    delete from webhooks.deliveries d using old o
    where d.webhook_id = o.webhook_id and d.delivery_id = o.delivery_id
""")

OLDEST_DUE = text(f"""
    with recursive {_WITH_PENDING}
    select extract(epoch from now() - min(d.next_attempt_at))::float8 as seconds
    from with_pending w
    join webhooks.endpoints e on e.webhook_id = w.webhook_id and e.is_enabled
    cross join lateral (
        select next_attempt_at from webhooks.deliveries
        where webhook_id = w.webhook_id and status = 'pending' order by next_attempt_at limit 1
    ) d
""")


class DeliveryRepository:
    """Stores deliveries. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.positions = PositionStore(database, "webhooks")

    async def enabled_webhooks(
        self, workspace_ids: Collection[UUID]
    ) -> dict[UUID, list[EnabledWebhook]]:
        """Returns enabled webhooks by workspace. A workspace without any is absent."""
        webhooks: dict[UUID, list[EnabledWebhook]] = {}
        async with self._database.pipeline() as driver:
            cursor = await driver.execute(
                SELECT_ENABLED_WEBHOOKS, [Column("uuid", list(workspace_ids))]
            )
            for workspace_id, webhook_id, events, created_at in await cursor.fetchall():
                webhooks.setdefault(workspace_id, []).append(
                    EnabledWebhook(webhook_id, frozenset(events), created_at)
                )
        return webhooks

    async def has_enabled_webhook(self) -> bool:
        """Returns whether any workspace has an enabled webhook."""
        row = await self._database.fetch_first(HAS_ENABLED_WEBHOOK)
        return row is not None and bool(row["has_any"])

    async def enqueue(self, deliveries: Sequence[NewDelivery], advance: Advance) -> int:
        """Stores new deliveries, in chunks. Returns the number that did not exist yet.

        Each transaction locks the batch's positions. Raises PositionBehind.
        """
        stored = 0
        for chunk in chunked(deliveries, MAX_ENQUEUED_DELIVERIES):
            async with self._database.pipeline() as driver:
                await self.positions.lock(driver, advance, moves=False)
                cursor = await driver.execute(ENQUEUE, to_columns(DELIVERY_COLUMNS, chunk))
                await driver.commit()
            stored += cursor.rowcount
        return stored

    async def claim(
        self, capacity: Capacity, in_flight: Iterable[InFlight], claim_seconds: float
    ) -> list[ClaimedDelivery]:
        """Claims due deliveries, within the capacity that requests in flight leave."""
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
                CLAIM, [*to_columns(IN_FLIGHT_COLUMNS, in_flight), *limits, claim_seconds]
            )
            await driver.commit()
            return [ClaimedDelivery(*row) for row in await cursor.fetchall()]

    async def record(
        self, results: Sequence[AttemptResult], policy: DisablePolicy
    ) -> list[DisabledWebhook]:
        """Records results of attempts. Returns the webhooks that these results disabled."""
        values = [*to_columns(RESULT_COLUMNS, results), *policy]
        async with self._database.pipeline() as driver:
            cursor = await driver.execute(RECORD, values)
            await driver.commit()
            rows = await cursor.fetchall()
        return [
            DisabledWebhook(webhook_id, workspace_id, DisabledReason(reason))
            for webhook_id, workspace_id, reason, was_disabled in rows
            if was_disabled
        ]

    async def delete_old(self, oldest_kept: UUID, limit: int) -> int:
        """Deletes at most `limit` deliveries: those of deleted webhooks, and those with ids below
        `oldest_kept`.

        Returns the number of deleted deliveries.
        """
        values = {"oldest_kept": oldest_kept, "max_id": MAX_ID, "limit": limit}
        async with self._database.transaction() as connection:
            return (await connection.execute(DELETE_OLD, values)).rowcount

    async def oldest_due_seconds(self) -> float:
        """Returns how long the oldest due delivery has been due, or 0."""
        row = await self._database.fetch_first(OLDEST_DUE)
        return max(0.0, (row and row["seconds"]) or 0.0)

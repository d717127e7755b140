"""The SQL of the outbox."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import delete, select

from services.publisher.outbox_events import OutboxEvent
from services.publisher.tables import outbox
from shared.kafka.producer import SEND_TIMEOUT_SECONDS
from shared.postgres.arrays import column_names, to_columns, unnest
from shared.postgres.database import Database, DriverConnection

_COLUMNS = (
    ("event_type", "text"),
    ("event_id", "text"),
    ("key", "text"),
    ("payload", "text"),
    ("occurred_at", "timestamptz"),
)
_INSERT_EVENTS = f"""
    insert into publisher.outbox ({column_names(_COLUMNS)})
    select r.event_type, r.event_id, r.key, convert_to(r.payload, 'UTF8'), r.occurred_at
    from {unnest(_COLUMNS)} with ordinality as r({column_names(_COLUMNS)}, position)
    order by r.position
"""


class OutboxRepository:
    """Takes events out of the outbox. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def take(self, limit: int) -> AsyncIterator[Sequence[OutboxEvent]]:
        """Takes at most `limit` events, the oldest first.

        They are deleted at the block's end. They stay if the block raises.
        """
        # Materialized, because the planner may run a plain subquery again and then delete rows
        # other than those that it locked first
        taken = (
            select(outbox.c.id)
            .order_by(outbox.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte()
            .prefix_with("MATERIALIZED")
        )
        statement = delete(outbox).where(outbox.c.id.in_(select(taken.c.id))).returning(outbox)
        async with self._database.transaction(
            extra_timeout_seconds=SEND_TIMEOUT_SECONDS
        ) as connection:
            rows = (await connection.execute(statement)).mappings().all()
            yield [
                OutboxEvent(*(row[name] for name in OutboxEvent._fields))
                for row in sorted(rows, key=lambda row: row["id"])
            ]


async def add_events(driver: DriverConnection, events: Sequence[OutboxEvent]) -> None:
    """Adds events in the same transaction as the change that they announce."""
    if events:
        rows = [
            (event.event_type, event.event_id, event.key, event.payload.decode(), event.occurred_at)
            for event in events
        ]
        await driver.execute(_INSERT_EVENTS, to_columns(_COLUMNS, rows))

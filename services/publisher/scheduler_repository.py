"""The SQL of the scheduler."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.publisher.grouping import group_by_change
from services.publisher.model import Failure, PinState
from services.publisher.outbox_events import (
    OutboxEvent,
    build_pin_failed,
    build_pin_published,
    build_pin_requeued,
)
from services.publisher.outbox_repository import add_events
from services.publisher.tables import pins
from shared.postgres.database import Database, driver_connection
from shared.postgres.row import Row


class DueBatch:
    """Due pins, locked by the batch's transaction."""

    def __init__(self, connection: AsyncConnection, due: Sequence[Row]) -> None:
        self._connection = connection
        self.pins = due

    async def publish(self, failures: Mapping[UUID, Failure]) -> None:
        """Publishes or queues the pins; those in `failures` fail. Adds an event for each."""
        changes = {
            pin["pin_id"]: _build_change(pin, failures.get(pin["pin_id"])) for pin in self.pins
        }
        for change, pin_ids in group_by_change(changes):
            await self._connection.execute(
                update(pins)
                .where(pins.c.pin_id.in_(pin_ids))
                .values(**change, updated_at=func.now())
            )
        events = [_build_event({**pin, **changes[pin["pin_id"]]}) for pin in self.pins]
        await add_events(await driver_connection(self._connection), events)


class DuePinRepository:
    """Locks due pins in batches. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def lock_due(self, limit: int) -> AsyncIterator[DueBatch]:
        """Locks at most `limit` pins that are due by the database's clock, the earliest first.

        Skips pins that another transaction has locked: a command that changes a pin, or another
        replica's scheduler. Commits at the block's end.
        """
        due = (
            select(pins, func.now().label("now"))
            .where(pins.c.state == PinState.SCHEDULED, pins.c.run_at <= func.now())
            .order_by(pins.c.run_at, pins.c.created_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(due)).mappings()
            yield DueBatch(connection, [dict(row) for row in rows])


def _build_change(pin: Row, failure: Failure | None) -> dict[str, Any]:
    if failure is not None:
        return {"state": PinState.FAILED, "failed_at": pin["now"], **failure._asdict()}
    if pin["delivery"] is not None:
        return {"state": PinState.QUEUED}
    return {"state": PinState.PUBLISHED, "published_at": pin["now"]}


def _build_event(pin: Row) -> OutboxEvent:
    """Builds the event of a pin after its change, which was made at `now`."""
    match pin["state"]:
        case PinState.PUBLISHED:
            return build_pin_published(pin)
        case PinState.QUEUED:
            return build_pin_requeued({**pin, "updated_at": pin["now"]})
        case _:
            return build_pin_failed(pin)

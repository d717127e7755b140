"""Changes pins after a restore, by the attempts that were read from the topic `deliveries`."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID, uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.publisher.delivery.attempts.compared import build_texts
from services.publisher.delivery.attempts.outcomes import describe_lost_answer
from services.publisher.delivery.log import statements
from services.publisher.delivery.log.repository import build_attempt_row
from services.publisher.delivery.log.rules import (
    Confirm,
    Keep,
    LeaveUnconfirmed,
    PinDecision,
    Publish,
    QueueAgain,
    ReadAttempt,
    RestoredPin,
    decide_pin,
)
from services.publisher.delivery.model import AttemptOutcome, DeliveryAttempt
from services.publisher.model import DELIVERY, PinState
from services.publisher.outbox_events import OutboxEvent, build_pin_failed, build_pin_published
from services.publisher.outbox_repository import add_events
from shared.postgres.arrays import to_columns
from shared.postgres.database import Database, driver_connection
from shared.postgres.row import Row

log = structlog.get_logger()

PINS_PER_TRANSACTION = 200
LOST_FENCE = 0
"""The fence of an attempt that no lease's holder made: its pin may have been sent, and Kafka has
lost whether."""
UNCONFIRMED = describe_lost_answer("its lists could not tell whether it has the pin")


class AttemptApplier:
    """Applies attempts and losses to pins in short transactions. Raises DatabaseUnavailable."""

    def __init__(self, database: Database, *, mode: str) -> None:
        self._database = database
        self._mode = mode

    async def apply_attempts(self) -> int:
        """Changes the pins of all attempts that were read. Returns the number of pins.

        An attempt without a pin stays: the pin's row may be read again, or a direct call may
        publish it again.
        """
        total = 0
        while count := await self._apply_some_attempts():
            total += count
        async with self._database.transaction() as connection:
            await connection.execute(statements.LOOK_FOR_LOST_PINS)
        return total

    async def apply_losses(self) -> int:
        """Confirms the queued pins that may have been sent in the time of an accepted loss.

        Returns their number. Call it only when Postgres has all rows that were processed.
        """
        loss = await self._database.fetch_first(statements.SELECT_LOSSES)
        if loss is None or loss["since"] is None:
            return 0
        since, accepted_at = loss["since"], loss["accepted_at"]
        total = 0
        while count := await self._confirm_some_suspects(since, accepted_at):
            total += count
        async with self._database.transaction() as connection:
            await connection.execute(statements.END_LOSSES, {"accepted_at": accepted_at})
        log.warning("delivery_loss_applied", pins=total, since=since.isoformat())
        return total

    async def _apply_some_attempts(self) -> int:
        async with self._database.transaction() as connection:
            attempts = await _lock_attempts(connection)
            if not attempts:
                return 0
            pin_ids = list(attempts)
            pins = await connection.execute(statements.LOCK_PINS, {"pin_ids": pin_ids})
            events: list[OutboxEvent] = []
            for pin in pins.mappings().all():
                events += await _apply(connection, dict(pin), attempts[pin["pin_id"]])
            await connection.execute(statements.MARK_APPLIED, {"pin_ids": pin_ids})
            await add_events(await driver_connection(connection), events)
        return len(pin_ids)

    async def _confirm_some_suspects(self, since: datetime, accepted_at: datetime) -> int:
        async with self._database.transaction() as connection:
            values = {
                "since": since,
                "accepted_at": accepted_at,
                "delivery": DELIVERY,
                "lost_fence": LOST_FENCE,
                "limit": PINS_PER_TRANSACTION,
            }
            rows = await connection.execute(statements.LOCK_SUSPECTS, values)
            pins = [dict(row) for row in rows.mappings()]
            if not pins:
                return 0
            attempts = [_build_lost_attempt(pin, self._mode, since, accepted_at) for pin in pins]
            driver = await driver_connection(connection)
            await driver.execute(
                statements.INSERT_SUSPECTS,
                to_columns(statements.RESTORED_COLUMNS, map(build_attempt_row, attempts)),
                binary=True,
            )
            pin_ids = [pin["pin_id"] for pin in pins]
            await connection.execute(statements.CONFIRM_SUSPECTS, {"pin_ids": pin_ids})
            await connection.execute(statements.COUNT_SUSPECTS, {"pins": len(pins)})
        return len(pins)


@dataclass(slots=True)
class _PinAttempts:
    """The attempts of a pin that were read from Kafka, and the start of other unsettled ones."""

    read: list[ReadAttempt] = field(default_factory=list)
    unsettled_since: list[datetime] = field(default_factory=list)


async def _lock_attempts(connection: AsyncConnection) -> dict[UUID, _PinAttempts]:
    values = {"limit": PINS_PER_TRANSACTION}
    attempts: defaultdict[UUID, _PinAttempts] = defaultdict(_PinAttempts)
    for row in await connection.execute(statements.LOCK_ATTEMPTS, values):
        if row.is_applied:
            attempts[row.pin_id].unsettled_since.append(row.started_at)
            continue
        attempts[row.pin_id].read.append(
            ReadAttempt(
                row.attempt_id,
                row.started_at,
                row.deadline_at,
                AttemptOutcome(row.outcome) if row.outcome else None,
                row.pinterest_pin_id,
                row.settled_at,
            )
        )
    return dict(attempts)


async def _apply(
    connection: AsyncConnection, pin: Row, attempts: _PinAttempts
) -> list[OutboxEvent]:
    if not attempts.read:  # another process has applied them meanwhile
        return []
    newest = max(attempt.started_at for attempt in attempts.read)
    has_later_unsettled = any(started > newest for started in attempts.unsettled_since)
    decision = decide_pin(_build_pin(pin), attempts.read, has_later_unsettled=has_later_unsettled)
    return await _carry_out(connection, pin, newest, decision)


def _build_pin(row: Row) -> RestoredPin:
    return RestoredPin(
        PinState(row["state"]),
        is_delivered=row["delivery"] is not None,
        is_deleted=row["deleted_at"] is not None,
        pinterest_pin_id=row["pinterest_pin_id"],
    )


async def _carry_out(
    connection: AsyncConnection, pin: Row, newest: datetime, decision: PinDecision
) -> list[OutboxEvent]:
    """Changes the pin, and settles its attempts that no longer count. Returns the events."""
    pin_id = pin["pin_id"]
    values: dict[str, Any] = {"pin_id": pin_id}
    await connection.execute(statements.SETTLE_SUPERSEDED, {**values, "started_at": newest})
    match decision:
        case Publish(pinterest_pin_id, published_at):
            values |= {"pinterest_pin_id": pinterest_pin_id, "published_at": published_at}
            published = (await connection.execute(statements.PUBLISH, values)).mappings().first()
            await connection.execute(statements.GIVE_UP_UNSETTLED, {"pin_id": pin_id})
            if published is not None:
                return [build_pin_published(dict(published))]
            log.error("pin_of_another", pin_id=str(pin_id), pinterest_pin_id=pinterest_pin_id)
            return [await _fail(connection, pin_id, published_at)]
        case Confirm(attempt_id):
            await connection.execute(statements.CONFIRM, values)
            await connection.execute(statements.LOOK_LATER, {"attempt_id": attempt_id})
            return []
        case LeaveUnconfirmed(failed_at):
            return [await _fail(connection, pin_id, failed_at)]
        case QueueAgain():
            await connection.execute(statements.QUEUE, values)
            return []
        case Keep(is_double):
            await connection.execute(statements.GIVE_UP_UNSETTLED, values)
            if is_double:
                log.error("pin_only_on_pinterest", pin_id=str(pin_id))
            return []
        case _:
            assert_never(decision)


async def _fail(connection: AsyncConnection, pin_id: UUID, failed_at: datetime) -> OutboxEvent:
    values = {
        "pin_id": pin_id,
        "failed_at": failed_at,
        "code": UNCONFIRMED.error_code,
        "message": UNCONFIRMED.error_message,
    }
    failed = (await connection.execute(statements.FAIL, values)).mappings().one()
    return build_pin_failed(dict(failed))


def _build_lost_attempt(pin: Row, mode: str, since: datetime, until: datetime) -> DeliveryAttempt:
    """Builds the attempt of a pin that may have been sent in this time."""
    return DeliveryAttempt(
        attempt_id=uuid4(),
        pin_id=pin["pin_id"],
        number=1,
        workspace_id=pin["workspace_id"],
        account_id=pin["account_id"],
        mode=mode,
        fence=LOST_FENCE,
        board_id=pin["board_id"],
        texts=build_texts(pin),
        started_at=since,
        deadline_at=until,
    )

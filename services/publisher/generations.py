"""Reads, releases and takes idempotency keys. Each release of a key starts a new generation.

The row under a key's first pin id says who has the key. Every change of a key holds that row's
lock. Lock first pins before pins of later generations, both in the order of their ids: a later pin
is only known after its key is locked, and in another order two transactions can deadlock.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import args_row

from services.publisher.key_state import KeyState, TakenKey
from services.publisher.model import PinState
from shared.contract.events import RowStatus
from shared.contract.schedule_ids import derive_schedule_id
from shared.postgres.arrays import Column, column_names, to_columns, unnest
from shared.postgres.database import DriverConnection

SELECT_KEYS = """
    select pin_id, workspace_id, idempotency_key, coalesce(generation, 0), released_at,
        current_pin_id
    from publisher.pins where pin_id = any(%b::uuid[])
"""
LOCK_KEYS = f"{SELECT_KEYS} order by pin_id for update"

# A scheduled pin is also canceled, because the scheduler checks only the state. Only a pin with a
# time can be canceled: a queued one without is not delivered, because it is deleted
RELEASE_PINS = f"""
    update publisher.pins
    set deleted_at = coalesce(deleted_at, now()), updated_at = now(),
        state = case
            when state in ('{PinState.SCHEDULED}', '{PinState.QUEUED}') and run_at is not null
            then '{PinState.CANCELED}' else state
        end
    where pin_id = any(%b::uuid[])
    returning pin_id, run_at, origin_job_id, origin_row
"""
# The time after the locks, not that of the transaction's start: a row that was settled while this
# transaction waited for them must count as earlier when it is redelivered
FREE_KEYS = """
    update publisher.pins set released_at = clock_timestamp(), current_pin_id = null
    where pin_id = any(%b::uuid[])
"""
_TAKEN_COLUMNS = (("first_pin_id", "uuid"), ("pin_id", "uuid"), ("generation", "int4"))
TAKE_KEYS = f"""
    update publisher.pins p set generation = t.generation, current_pin_id = t.pin_id
    from {unnest(_TAKEN_COLUMNS)} as t({column_names(_TAKEN_COLUMNS)})
    where p.pin_id = t.first_pin_id
"""
_CREATED_COLUMNS = (
    ("job_id", "uuid"),
    ("row_number", "int4"),
    ("pin_id", "uuid"),
    ("schedule_id", "uuid"),
)
RECORD_CREATED = f"""
    insert into publisher.row_outcomes (status, {column_names(_CREATED_COLUMNS)})
    select '{RowStatus.CREATED}', * from {unnest(_CREATED_COLUMNS)} order by 2, 3
    on conflict do nothing
"""


async def read_keys(
    driver: DriverConnection, first_pin_ids: Collection[UUID], *, lock: bool
) -> dict[UUID, KeyState]:
    """Reads keys by their first pin ids. Keys that were never used are missing.

    With `lock`, no other transaction can release or take the keys until this one ends.
    """
    statement = LOCK_KEYS if lock else SELECT_KEYS
    cursor = driver.cursor(binary=True, row_factory=args_row(KeyState))
    await cursor.execute(statement, [Column("uuid", list(first_pin_ids))])
    return {key.first_pin_id: key for key in await cursor.fetchall()}


async def release_keys(driver: DriverConnection, holders: Iterable[tuple[UUID, UUID]]) -> None:
    """Deletes pins and releases their keys: a later import or a direct call may take them.

    `holders` are pairs: the first pin id of a key, and the pin that has the key. The transaction
    must have locked both rows. Records that the pins' rows were created, so that a redelivery
    reports it again.
    """
    pairs = list(holders)
    if not pairs:
        return
    pin_ids = Column("uuid", [pin_id for _, pin_id in pairs])
    cursor = await driver.execute(RELEASE_PINS, [pin_ids], binary=True)
    created = [
        (job_id, row_number, *_find_created_ids(pin_id, run_at))
        for pin_id, run_at, job_id, row_number in await cursor.fetchall()
        if job_id is not None
    ]
    await driver.execute(FREE_KEYS, [Column("uuid", [first for first, _ in pairs])])
    await record_created(driver, created)


async def record_created(driver: DriverConnection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Records rows as created: job id, row number, and the pin_id and schedule_id they report.

    An outcome that was recorded before stays.
    """
    if rows:
        await driver.execute(RECORD_CREATED, to_columns(_CREATED_COLUMNS, rows))


async def take_keys(driver: DriverConnection, taken: Sequence[TakenKey]) -> None:
    """Gives free keys to new pins. The transaction inserts these pins with their generation."""
    if taken:
        await driver.execute(TAKE_KEYS, to_columns(_TAKEN_COLUMNS, taken))


def _find_created_ids(pin_id: UUID, run_at: datetime | None) -> tuple[UUID | None, UUID | None]:
    """Returns the pin_id and schedule_id that a created row reports."""
    return (pin_id, None) if run_at is None else (None, derive_schedule_id(pin_id))

"""The SQL of commands on whole imports.

Locks are taken in one order, as everywhere: positions, then pins (services/publisher/generations).
"""

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import dict_row

from services.publisher.creation_times import compute_created_at
from services.publisher.generations import release_keys
from services.publisher.ids import compute_pin_id
from services.publisher.lost_pins import IS_LOST, LostPins, RequireCurrentDatabase
from services.publisher.model import PinState
from services.publisher.pins.removals import read_outcomes, request_removals
from services.publisher.removal_outcomes import SettledRemoval
from services.publisher.tables import IS_DELIVERING, IS_NOT_SHOWN, IS_SHOWN
from shared.contract.events import MAX_ROWS
from shared.postgres.database import Database, DriverConnection
from shared.postgres.row import Row

_OF_IMPORT = """
    workspace_id = %(workspace_id)s and origin_job_id = %(job_id)s
    and created_at > %(accepted_at)s and created_at <= %(last_created_at)s
"""
_PARTS = (IS_SHOWN, IS_NOT_SHOWN, IS_DELIVERING)
"""Three conditions that together match every pin, each that of an index."""
_COLUMNS = """
    pin_id, idempotency_key, account_id, origin_row, state, run_at, published_at, deleted_at,
    touched_at, pinterest_pin_id, removed_at, error_code
"""
SELECT_PINS = " union all ".join(
    f"select {_COLUMNS} from publisher.pins where {_OF_IMPORT} and {part}" for part in _PARTS
)
LOCK_PINS = f"""
    select {_COLUMNS} from publisher.pins where pin_id = any(%(pin_ids)s::uuid[])
    order by pin_id for update
"""
SELECT_LOST = f"""
    select from publisher.row_outcomes o
    where o.job_id = %(job_id)s and o.promised_pin_id is not null and {IS_LOST}
    limit 1
"""
SELECT_UNDO = """
    select undo_id, undone_at, result from publisher.undos
    where job_id = %(job_id)s and workspace_id = %(workspace_id)s
"""
# A removal from Pinterest that has an outcome is no longer open. A refused one left its pin
SUMMARIZE_UNDOS = """
    select u.job_id, u.undone_at,
        json_array_length(u.result -> 'undone') - r.refused as undone_rows,
        r.removing as removing_rows,
        json_array_length(u.result -> 'left') + r.refused as left_rows
    from publisher.undos u
    cross join lateral (
        select count(*) filter (where m.outcome = 'refused') as refused,
            count(*) filter (where m.outcome is null) as removing
        from json_array_elements(u.result -> 'undone') as item
        left join publisher.removals m on m.pin_id = cast(item ->> 'pin_id' as uuid)
        where item ->> 'action' = 'removing'
    ) r
    where u.workspace_id = %(workspace_id)s and u.job_id = any(%(job_ids)s::uuid[])
"""
UPDATE_UNDO = """
    update publisher.undos set result = %(result)s
    where job_id = %(job_id)s and workspace_id = %(workspace_id)s
"""
# The primary key decides between two undos at once that both found nothing to lock
INSERT_UNDO = """
    insert into publisher.undos (job_id, workspace_id, undo_id, result)
    values (%(job_id)s, %(workspace_id)s, %(undo_id)s, %(result)s)
    on conflict do nothing returning undone_at
"""
# Each batch locks the positions of its partitions. So while these locks are held, every row is
# either settled, or its batch will read the cancellation
LOCK_POSITIONS = """
    select partition, next_offset from publisher.positions where topic = %(topic)s
    order by partition for update
"""
INSERT_CANCELED = """
    insert into publisher.canceled_jobs (job_id, workspace_id, partition, next_offset)
    select %(job_id)s, %(workspace_id)s, p.partition, p.next_offset
    from unnest(%(partitions)s::int4[], %(offsets)s::int8[]) as p(partition, next_offset)
    on conflict do nothing
"""
SELECT_CANCELED_AT = """
    select min(canceled_at) as canceled_at from publisher.canceled_jobs
    where job_id = %(job_id)s and workspace_id = %(workspace_id)s
"""
# All records of an import at once: a partition without a record counts as canceled from its
# beginning (rows/cancellation.py). Few imports are canceled or undone, so no index is needed
DELETE_OLD = {
    table: f"""
        delete from publisher.{table} where (job_id, workspace_id) in (
            select job_id, workspace_id from publisher.{table}
            where {time} < now() - %(retention)s group by 1, 2 limit %(limit)s
        )
    """
    for table, time in (("canceled_jobs", "canceled_at"), ("undos", "undone_at"))
}
CANCEL_SCHEDULES = f"""
    update publisher.pins set state = '{PinState.CANCELED}', updated_at = now()
    where pin_id = any(%(pin_ids)s::uuid[])
"""
# Like a person's deletion, but touched_at stays null, by which a repeated command knows the pin.
# Without a run_at it can't be canceled; the delivery sends no deleted pin
WITHDRAW_PINS = """
    update publisher.pins set deleted_at = now(), updated_at = now()
    where pin_id = any(%(pin_ids)s::uuid[])
"""
SELECT_OUTCOME = """
    select status, pin_id, schedule_id, payload_matches, error_code, error_message, existing_state,
        updated, recorded_at
    from publisher.row_outcomes where job_id = %(job_id)s and row_number = %(row_number)s
"""
_SELECT_PIN_OF_ROW = """
    select pin_id, state, run_at, account_id, board_id, created_at, updated_at, published_at,
        failed_at, deleted_at, touched_at, removed_at, error_code, error_message, delivery,
        pinterest_pin_id, deliver_after
    from publisher.pins
    where workspace_id = %(workspace_id)s and origin_job_id = %(job_id)s
        and created_at = %(created_at)s and origin_row = %(row_number)s and
"""
SELECT_PIN_OF_ROW = " union all ".join(f"{_SELECT_PIN_OF_ROW} {part}" for part in _PARTS)
SELECT_ATTEMPTS = """
    select number, started_at, settled_at, outcome, pinterest_pin_id, error_code, error_message
    from publisher.delivery_attempts where pin_id = %(pin_id)s order by number desc limit 20
"""


class ImportId(NamedTuple):
    """An import, and when it was accepted: its pins were created shortly after that."""

    workspace_id: UUID
    job_id: UUID
    accepted_at: datetime

    @property
    def values(self) -> dict[str, Any]:
        return {**self._asdict(), "last_created_at": compute_created_at(self.accepted_at, MAX_ROWS)}


class StoredUndo(NamedTuple):
    """The record of an undo."""

    undo_id: UUID
    undone_at: datetime
    result: dict[str, Any]


class UndoneBefore(Exception):
    """Another undo of the import was committed meanwhile. Nothing may be written."""


class CommandTransaction:
    """One transaction of a command on an import."""

    def __init__(self, driver: DriverConnection, target: ImportId) -> None:
        self._driver = driver
        self._target = target

    async def find_undo(self, *, lock: bool = False) -> StoredUndo | None:
        """Reads the record of the import's undo. `lock` prevents another transaction's change."""
        statement = f"{SELECT_UNDO} for update" if lock else SELECT_UNDO
        rows = await self._fetch(statement, self._target.values)
        return StoredUndo(**rows[0]) if rows else None

    async def read_pins(self) -> list[Row]:
        """Reads the pins that the import created, deleted ones too. Locks nothing."""
        return await self._fetch(SELECT_PINS, self._target.values)

    async def lock_pins(self) -> list[Row]:
        """Locks the pins that the import created, and their keys. Returns the pins."""
        found = await self.read_pins()
        own = {pin["pin_id"] for pin in found}
        keys = {self._first_pin_id(pin) for pin in found}
        # Keys first, as batches do: otherwise an undo and a batch can deadlock
        await self._fetch(LOCK_PINS, {"pin_ids": list(keys)})
        rows = await self._fetch(LOCK_PINS, {"pin_ids": list(own | keys)})
        return [row for row in rows if row["pin_id"] in own]

    async def release(self, pins: Collection[Row]) -> None:
        """Deletes locked pins and releases their keys. A waiting schedule is also canceled."""
        holders = [(self._first_pin_id(pin), pin["pin_id"]) for pin in pins]
        await release_keys(self._driver, holders)

    async def request_removals(self, pins: Collection[Row]) -> None:
        """Requests that locked pins are removed from Pinterest, and their keys released then."""
        pin_ids = [pin["pin_id"] for pin in pins]
        await request_removals(self._driver, pin_ids, release_keys=True)

    async def read_removals(self, pin_ids: Collection[UUID]) -> dict[UUID, SettledRemoval]:
        """Reads the outcomes of the removals that have one."""
        return await read_outcomes(self._driver, pin_ids) if pin_ids else {}

    async def read_attempts(self, pin_id: UUID) -> list[Row]:
        """Reads the last attempts to create the pin on Pinterest, the earliest first."""
        return list(reversed(await self._fetch(SELECT_ATTEMPTS, {"pin_id": pin_id})))

    async def record_undo(self, undo_id: UUID, result: Mapping[str, Any]) -> datetime:
        """Records the undo. Returns its time. Raises UndoneBefore."""
        values = {**self._target.values, "undo_id": undo_id, "result": json.dumps(result)}
        rows = await self._fetch(INSERT_UNDO, values)
        if not rows:
            raise UndoneBefore
        undone_at: datetime = rows[0]["undone_at"]
        return undone_at

    async def extend_undo(self, result: Mapping[str, Any]) -> None:
        """Replaces the result in the locked record."""
        await self._driver.execute(
            UPDATE_UNDO, {**self._target.values, "result": json.dumps(result)}
        )

    async def cancel_rows(self, topic: str) -> datetime | None:
        """Cancels the rows that have not settled. Returns when the import was canceled first.

        Waits for the batches that are being settled. Returns None if the service has no positions
        yet: then a batch could not notice the cancellation.
        """
        positions = await self._fetch(LOCK_POSITIONS, {"topic": topic})
        values = {
            **self._target.values,
            "partitions": [position["partition"] for position in positions],
            "offsets": [position["next_offset"] for position in positions],
        }
        await self._driver.execute(INSERT_CANCELED, values)
        return await self.find_cancellation()

    async def find_cancellation(self) -> datetime | None:
        (row,) = await self._fetch(SELECT_CANCELED_AT, self._target.values)
        canceled_at: datetime | None = row["canceled_at"]
        return canceled_at

    async def cancel_schedules(self, pin_ids: Sequence[UUID]) -> None:
        """Cancels locked schedules. Their keys stay taken, as when a person cancels them."""
        await self._driver.execute(CANCEL_SCHEDULES, {"pin_ids": pin_ids})

    async def withdraw_pins(self, pin_ids: Sequence[UUID]) -> None:
        """Deletes locked pins that are queued. Their keys stay taken, as after a delete."""
        await self._driver.execute(WITHDRAW_PINS, {"pin_ids": pin_ids})

    async def read_row(self, row_number: int, created_at: datetime) -> tuple[Row | None, ...]:
        """Reads a row's recorded outcome and the pin that it created."""
        values = {**self._target.values, "row_number": row_number, "created_at": created_at}
        outcomes = await self._fetch(SELECT_OUTCOME, values)
        pins = await self._fetch(SELECT_PIN_OF_ROW, values)
        return next(iter(outcomes), None), next(iter(pins), None)

    def _first_pin_id(self, pin: Row) -> UUID:
        return compute_pin_id(self._target.workspace_id, pin["idempotency_key"])

    async def _fetch(self, statement: str, values: Mapping[str, Any]) -> list[Row]:
        cursor = self._driver.cursor(row_factory=dict_row)
        await cursor.execute(statement, values)
        return list(await cursor.fetchall())


class ImportRepository:
    """Opens transactions of commands. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(
        self, database: Database, require_current_database: RequireCurrentDatabase
    ) -> None:
        """Takes a check that rejects a connection to a possibly older copy of Postgres."""
        self._database = database
        self._lost_pins = LostPins(database, require_current_database)

    @asynccontextmanager
    async def transaction(
        self, target: ImportId, *, complete: bool = False
    ) -> AsyncIterator[CommandTransaction]:
        """Opens a transaction that commits at the block's end.

        With `complete`, raises ApiError (503) while pins of the import may be missing, because an
        older Postgres was restored.
        """
        async with self._database.pipeline() as driver:
            if complete:
                await self._lost_pins.require_none(
                    driver, SELECT_LOST, target.values, "pins of this import"
                )
            yield CommandTransaction(driver, target)

    async def summarize_undos(self, workspace_id: UUID, job_ids: Sequence[UUID]) -> list[Row]:
        """Counts what the undos of these imports deleted and left. Omits the other imports."""
        values = {"workspace_id": workspace_id, "job_ids": list(job_ids)}
        async with self._database.pipeline() as driver:
            cursor = driver.cursor(row_factory=dict_row)
            await cursor.execute(SUMMARIZE_UNDOS, values)
            return list(await cursor.fetchall())

    async def delete_commands(self, retention: timedelta, limit: int) -> int:
        """Deletes the old records of at most `limit` imports of each kind. Returns their number."""
        values = {"retention": retention, "limit": limit}
        async with self._database.pipeline() as driver:
            cursors = [await driver.execute(delete, values) for delete in DELETE_OLD.values()]
            await driver.commit()
        return sum(cursor.rowcount for cursor in cursors)

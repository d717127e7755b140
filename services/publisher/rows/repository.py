"""The SQL of the row pipeline: batches of rows, and outcomes that were read from Kafka."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import AsyncCursor
from psycopg.rows import args_row
from sqlalchemy import text

from services.publisher.existing_pins import CONTENT_COLUMNS
from services.publisher.model import STORED_COLUMNS, Origin, SelectedPin
from services.publisher.rows.cancellation import JobCanceled
from services.publisher.rows.key_snapshot import KeyReleased
from services.publisher.rows.key_transaction import KeyTransaction
from services.publisher.rows.outcomes import FailedRow
from services.publisher.rows.pin_inserts import build_pins_insert
from services.publisher.rows.recorded_outcomes import (
    INSERT_OUTCOMES,
    OUTCOME_COLUMNS,
    collect_job_ids,
    parse_recorded,
    record_failures,
    select_recorded,
)
from services.publisher.rows.snapshot import (
    KeyedRow,
    RecordedOutcomes,
    StoredOutcome,
    StoreSnapshot,
    build_snapshot,
    select_publishable,
)
from shared.contract.events import PinContent
from shared.contract.row_identity import UnreadableRow
from shared.kafka.positions.advance import Advance
from shared.kafka.positions.store import PositionStore
from shared.postgres.arrays import Column, to_columns
from shared.postgres.database import Database, DriverConnection

# A separate statement: in the statement of the insert, neither part would return an id that another
# transaction has just committed (measured). It excludes the pins of this transaction's insert: they
# are known. If every id was inserted, none existed before, and nothing is looked up (14.3 → 12.2 µs
# of Postgres per row in the whole pipeline, more with a larger table).
# A released key ends the transaction: without a second one, a cancellation can't come between.
_NOT_RELEASED = """
    case when released_at is not null then publisher.require_all_rules() end
"""
_EXISTING_COLUMNS = [_NOT_RELEASED if name == "released_at" else name for name in STORED_COLUMNS]
SELECT_EXISTING = f"""
    select {", ".join(_EXISTING_COLUMNS)} from publisher.pins
    where pin_id = any(%b::uuid[]) and xmin <> (select pg_current_xact_id()::xid)
        and current_setting('pinflow.inserted')::int4 < %b::int4
"""

SELECT_CONTENTS = f"""
    select pin_id, {", ".join(CONTENT_COLUMNS)} from publisher.pins where pin_id = any(%b::uuid[])
"""

REQUIRE_NOT_CANCELED = "select publisher.require_not_canceled(%b::uuid[])"
JOB_CANCELED = "PF002"
"""SQLSTATE that the SQL function require_not_canceled raises (migration 0016)."""
KEY_RELEASED = "PF003"
"""SQLSTATE that the SQL function require_all_rules raises (migration 0016). Then the batch
takes the locking path."""


class RowTransaction:
    """One transaction that settles rows.

    Call one of `publish` and `read_recorded`, then `record` and `read_contents`.
    """

    def __init__(self, driver: DriverConnection, positions_cursor: AsyncCursor[Any]) -> None:
        self._driver = driver
        self._positions_cursor = positions_cursor
        """The result of the statement that locks the positions: the transaction's time."""

    async def publish(self, rows: Sequence[KeyedRow], passed: Sequence[KeyedRow]) -> StoreSnapshot:
        """Publishes the rows of `passed` whose keys are free. Reads the stored pins of all keys.

        `passed` are the rows that passed their checks, in the order of `rows`. A row that is
        recorded as created counts as passed. If all passed, also commits, in the same round trip:
        `record` then uses a second transaction. Raises JobCanceled if a row's job is canceled, and
        KeyReleased if a row's key was ever released.
        """
        pins = _SelectParameters.from_rows(rows)
        jobs = collect_job_ids(keyed.row for keyed in rows)
        await self._driver.execute(REQUIRE_NOT_CANCELED, (jobs,), binary=True)
        recorded = await select_recorded(self._driver, jobs, pins.ids)
        if len(passed) == len(rows):
            inserted, existing = await self._insert_and_select(rows, pins)
            await self._driver.commit()  # sent with the other statements, before any result is read
            outcomes = parse_recorded(await recorded.fetchall())
            return await self._snapshot(rows, outcomes, inserted, existing)
        outcomes = parse_recorded(await recorded.fetchall())
        publishable = select_publishable(rows, passed, outcomes)
        inserted, existing = await self._insert_and_select(publishable, pins)
        return await self._snapshot(publishable, outcomes, inserted, existing)

    async def read_recorded(self, rows: Sequence[UnreadableRow]) -> Mapping[Origin, StoredOutcome]:
        """Reads the recorded outcomes of unreadable rows."""
        recorded = await select_recorded(self._driver, collect_job_ids(rows), Column("uuid", ()))
        return parse_recorded(await recorded.fetchall()).by_row

    async def record(self, failures: Sequence[FailedRow]) -> None:
        """Records failures, so that a redelivery reads them back."""
        await record_failures(self._driver, failures)

    async def read_contents(self, pin_ids: Collection[UUID]) -> dict[UUID, PinContent]:
        """Reads the content of stored pins, by pin id. An edit may have changed it.

        As `record` does, it uses a second transaction if `publish` has committed.
        """
        cursor = await self._driver.execute(
            SELECT_CONTENTS, [Column("uuid", list(pin_ids))], binary=True
        )
        return {
            pin_id: PinContent(**dict(zip(CONTENT_COLUMNS, values, strict=True)))
            for pin_id, *values in await cursor.fetchall()
        }

    async def _insert_and_select(
        self, publishable: Sequence[KeyedRow], pins: "_SelectParameters"
    ) -> tuple[AsyncCursor[Any], AsyncCursor[SelectedPin]]:
        """Sends the insert of the publishable rows and the select of all rows' existing pins."""
        statement, values = build_pins_insert(publishable)
        inserted = await self._driver.execute(statement, values, binary=True)
        cursor = self._driver.cursor(binary=True, row_factory=args_row(SelectedPin))
        return inserted, await cursor.execute(SELECT_EXISTING, pins)

    async def _snapshot(
        self,
        publishable: Sequence[KeyedRow],
        recorded: RecordedOutcomes,
        inserted: AsyncCursor[Any],
        existing: AsyncCursor[SelectedPin],
    ) -> StoreSnapshot:
        """Builds the snapshot from the results of all statements that were sent."""
        ((now,),) = await self._positions_cursor.fetchall()
        pins = {pin.pin_id: pin for pin in await existing.fetchall()}
        snapshot = build_snapshot(publishable, recorded, pins, now)
        ((count, _),) = await inserted.fetchall()
        if count != snapshot.inserted:
            message = (
                f"Postgres inserted {count} pins, the snapshot has {snapshot.inserted} new ones"
            )
            raise AssertionError(message)
        return snapshot


class RowRepository:
    """Stores the pins and outcomes of rows.

    Raises DatabaseUnavailable if Postgres is down, and ValueRejected if Postgres rejects a value
    of a row.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.positions = PositionStore(database, "publisher")

    @asynccontextmanager
    async def transaction(
        self, advance: Advance, *, moves: bool = False
    ) -> AsyncIterator[RowTransaction]:
        """Opens a transaction that locks the advance's positions. With `moves`, it moves them.

        Commits at the block's end. Raises PositionBehind, JobCanceled and KeyReleased.
        """
        try:
            async with self._open(advance, moves=moves) as (driver, cursor):
                yield RowTransaction(driver, cursor)
        except psycopg.DatabaseError as error:
            if error.diag.sqlstate == JOB_CANCELED:
                raise JobCanceled from error
            if error.diag.sqlstate == KEY_RELEASED:
                raise KeyReleased from error
            raise

    @asynccontextmanager
    async def key_transaction(
        self, advance: Advance, *, moves: bool = False
    ) -> AsyncIterator[KeyTransaction]:
        """Opens the same for rows on the locking path. Raises PositionBehind."""
        async with self._open(advance, moves=moves) as (driver, cursor):
            yield KeyTransaction(driver, cursor)

    @asynccontextmanager
    async def read_only(self) -> AsyncIterator[KeyTransaction]:
        """Opens a transaction that can't write, with one snapshot for all its statements."""
        async with self._database.pipeline() as driver:
            await driver.execute("set transaction isolation level repeatable read, read only")
            yield KeyTransaction(driver, await driver.execute("select now()", binary=True))

    @asynccontextmanager
    async def _open(
        self, advance: Advance, *, moves: bool
    ) -> AsyncIterator[tuple[DriverConnection, AsyncCursor[Any]]]:
        async with self._database.pipeline() as driver:
            yield driver, await self.positions.lock(driver, advance, moves=moves)
        if moves:
            self.positions.mark_stored(advance)

    async def record_outcomes(self, rows: Sequence[tuple[Any, ...]], advance: Advance) -> None:
        """Records outcomes from Kafka and moves the advance's positions, in one transaction.

        The values of a row are in the order of OUTCOME_COLUMNS. Outcomes that were recorded before
        stay unchanged. Raises PositionBehind.
        """
        async with self._database.pipeline() as driver:
            await self.positions.lock(driver, advance, moves=True)
            await driver.execute(INSERT_OUTCOMES, to_columns(OUTCOME_COLUMNS, rows))
        self.positions.mark_stored(advance)

    async def analyze_outcomes(self) -> None:
        """Updates the statistics of row_outcomes, so that the planner uses its indexes."""
        async with self._database.transaction() as connection:
            await connection.execute(text("analyze publisher.row_outcomes"))


class _SelectParameters(NamedTuple):
    """The parameters of SELECT_EXISTING: every row's pin id, and the number of distinct ids."""

    ids: Column
    distinct: int

    @classmethod
    def from_rows(cls, rows: Sequence[KeyedRow]) -> "_SelectParameters":
        ids = [keyed.pin_id for keyed in rows]
        # Compares numbers, as collect_job_ids does
        return cls(Column("uuid", ids), len({pin_id.int for pin_id in ids}))

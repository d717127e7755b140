"""The SQL of the row pipeline: batches of rows, and outcomes that were read from Kafka."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import orjson
from psycopg import AsyncCursor
from psycopg.rows import args_row
from sqlalchemy import text

from services.publisher.existing_pins import CONTENT_COLUMNS
from services.publisher.model import (
    PIN_COLUMNS,
    PIN_TEXTS,
    STORED_COLUMNS,
    Failure,
    Origin,
    StoredPin,
)
from services.publisher.rows.outcomes import FailedRow
from services.publisher.rows.snapshot import (
    KeyedRow,
    RecordedOutcomes,
    StoredOutcome,
    StoreSnapshot,
    build_snapshot,
    select_publishable,
)
from shared.contract.events import (
    ExistingState,
    FieldDifference,
    PinContent,
    RowAccepted,
    RowStatus,
)
from shared.contract.row_identity import UnreadableRow
from shared.kafka.positions.advance import Advance
from shared.kafka.positions.store import PositionStore
from shared.postgres.arrays import Column, column_names, to_columns, unnest
from shared.postgres.database import Database, DriverConnection
from shared.postgres.row import Row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_COLUMNS_WITHOUT_TEXTS = PIN_COLUMNS[: -len(PIN_TEXTS)]
_TEXTS = [attrgetter(name) for name in PIN_TEXTS]

OUTCOME_COLUMNS = (
    ("job_id", "uuid"),
    ("row_number", "int4"),
    ("status", "text"),
    ("pin_id", "uuid"),
    ("schedule_id", "uuid"),
    ("payload_matches", "bool"),
    ("error_code", "text"),
    ("error_message", "text"),
    ("promised_pin_id", "uuid"),
    ("existing_state", "text"),
    ("differing_fields", "text"),
)
_decode_differences = msgspec.json.Decoder(list[FieldDifference]).decode
# Selects the recorded outcomes of these jobs' rows, and of other rows to which these pins are
# reserved
SELECT_RECORDED = f"""
    select {column_names(OUTCOME_COLUMNS)}
    from publisher.row_outcomes where job_id = any(%b::uuid[]) or promised_pin_id = any(%b::uuid[])
"""

_VALUES = {
    "created_at": "timestamptz 'epoch' + r.created_at * interval '1 microsecond'",
    "related_terms": "r.related_terms::json",
}

# The pin id is computed from workspace and key, so the primary key allows each key only one pin. If
# rows of a batch have the same key, the first in order is inserted. The rows are sorted by id,
# because otherwise two publishers with overlapping keys deadlock (measured).
INSERT_PINS = f"""
    with inserted as (
        insert into publisher.pins ({column_names(PIN_COLUMNS)}, state, published_at)
        select {", ".join(_VALUES.get(name, f"r.{name}") for name, _ in PIN_COLUMNS)},
            case when r.run_at is null then 'published' else 'scheduled' end,
            case when r.run_at is null then now() end
        from {unnest(PIN_COLUMNS)} with ordinality as r({column_names(PIN_COLUMNS)}, ordinal)
        where not exists (
            select from publisher.row_outcomes o
            where o.job_id = r.origin_job_id and o.row_number = r.origin_row
                and o.status <> 'created'
        ) and (
            not exists (
                select from publisher.row_outcomes o
                where o.promised_pin_id = r.pin_id
                    and (o.job_id, o.row_number) <> (r.origin_job_id, r.origin_row)
            ) or exists (
                select from publisher.row_outcomes o
                where o.job_id = r.origin_job_id and o.row_number = r.origin_row
                    and o.status = 'created'
            )
        )
        order by r.pin_id, r.ordinal
        on conflict (pin_id) do nothing
        returning true
    )
    select count(*)::int4, set_config('pinflow.inserted', count(*)::text, true) from inserted
"""

# A separate statement: in the statement of the insert, neither part would return an id that another
# transaction has just committed (measured). It excludes the pins of this transaction's insert: they
# are known. If every id was inserted, none existed before, and nothing is looked up (14.3 → 12.2 µs
# of Postgres per row in the whole pipeline, more with a larger table).
SELECT_EXISTING = f"""
    select {", ".join(STORED_COLUMNS)} from publisher.pins
    where pin_id = any(%b::uuid[]) and xmin <> (select pg_current_xact_id()::xid)
        and current_setting('pinflow.inserted')::int4 < %b::int4
"""

SELECT_CONTENTS = f"""
    select pin_id, {", ".join(CONTENT_COLUMNS)} from publisher.pins where pin_id = any(%b::uuid[])
"""

FAILURE_COLUMNS = (
    ("job_id", "uuid"),
    ("row_number", "int4"),
    ("error_code", "text"),
    ("error_message", "text"),
)
INSERT_FAILURES = f"""
    insert into publisher.row_outcomes (status, {column_names(FAILURE_COLUMNS)})
    select '{RowStatus.FAILED}', * from {unnest(FAILURE_COLUMNS)} order by 2, 3
    on conflict do nothing
"""

INSERT_OUTCOMES = f"""
    insert into publisher.row_outcomes ({column_names(OUTCOME_COLUMNS)})
    select * from {unnest(OUTCOME_COLUMNS)} order by 1, 2
    on conflict do nothing
"""


class RowTransaction:
    """One transaction that settles rows.

    Call one of `publish`, `read` and `read_recorded`, then the others.
    """

    def __init__(self, driver: DriverConnection, positions_cursor: AsyncCursor[Any]) -> None:
        self._driver = driver
        self._positions_cursor = positions_cursor
        """The result of the statement that locks the positions: the transaction's time."""

    async def publish(self, rows: Sequence[KeyedRow], passed: Sequence[KeyedRow]) -> StoreSnapshot:
        """Publishes the rows of `passed` whose keys are free. Reads the stored pins of all keys.

        `passed` are the rows that passed their checks, in the order of `rows`. A row that is
        recorded as created counts as passed. If all passed, also commits, in the same round trip:
        `record` then uses a second transaction.
        """
        pins = _SelectParameters.from_rows(rows)
        recorded = await self._select_recorded(
            _collect_job_ids(keyed.row for keyed in rows), pins.ids
        )
        if len(passed) == len(rows):
            inserted, existing = await self._insert_and_select(rows, pins)
            await self._driver.commit()  # sent with the other statements, before any result is read
            outcomes = _parse_recorded(await recorded.fetchall())
            return await self._snapshot(rows, outcomes, inserted, existing)
        outcomes = _parse_recorded(await recorded.fetchall())
        publishable = select_publishable(rows, passed, outcomes)
        inserted, existing = await self._insert_and_select(publishable, pins)
        return await self._snapshot(publishable, outcomes, inserted, existing)

    async def read(self, rows: Sequence[KeyedRow]) -> StoreSnapshot:
        """Reads the stored pins of the rows' keys. Publishes nothing."""
        pins = _SelectParameters.from_rows(rows)
        recorded = await self._select_recorded(
            _collect_job_ids(keyed.row for keyed in rows), pins.ids
        )
        # The insert of no rows costs little, and the snapshot is built as in `publish`
        inserted, existing = await self._insert_and_select((), pins)
        outcomes = _parse_recorded(await recorded.fetchall())
        return await self._snapshot((), outcomes, inserted, existing)

    async def read_recorded(self, rows: Sequence[UnreadableRow]) -> Mapping[Origin, StoredOutcome]:
        """Reads the recorded outcomes of unreadable rows."""
        recorded = await self._select_recorded(_collect_job_ids(rows), Column("uuid", ()))
        return _parse_recorded(await recorded.fetchall()).by_row

    async def record(self, failures: Sequence[FailedRow]) -> None:
        """Records failures, so that a redelivery reads them back."""
        if failures:
            rows = [(failed.job_id, failed.row_number, *failed.failure) for failed in failures]
            await self._driver.execute(INSERT_FAILURES, to_columns(FAILURE_COLUMNS, rows))

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

    async def _select_recorded(self, jobs: Column, pin_ids: Column) -> AsyncCursor[Any]:
        return await self._driver.execute(SELECT_RECORDED, (jobs, pin_ids), binary=True)

    async def _insert_and_select(
        self, publishable: Sequence[KeyedRow], pins: "_SelectParameters"
    ) -> tuple[AsyncCursor[Any], AsyncCursor[StoredPin]]:
        """Sends the insert of the publishable rows and the select of all rows' existing pins."""
        values = _build_insert_columns(publishable)
        inserted = await self._driver.execute(INSERT_PINS, values, binary=True)
        cursor = self._driver.cursor(binary=True, row_factory=args_row(StoredPin))
        return inserted, await cursor.execute(SELECT_EXISTING, pins)

    async def _snapshot(
        self,
        publishable: Sequence[KeyedRow],
        recorded: RecordedOutcomes,
        inserted: AsyncCursor[Any],
        existing: AsyncCursor[StoredPin],
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

        Commits at the block's end. Raises PositionBehind, and ValueRejected if Postgres rejects a
        value.
        """
        async with self._database.pipeline() as driver:
            yield RowTransaction(driver, await self.positions.lock(driver, advance, moves=moves))
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
        # Compares numbers, as _collect_job_ids does
        return cls(Column("uuid", ids), len({pin_id.int for pin_id in ids}))


def _collect_job_ids(rows: Iterable[RowAccepted | UnreadableRow]) -> Column:
    """Collects the distinct job ids. Compares numbers: Python hashes and compares UUIDs slowly."""
    return Column("uuid", list({row.job_id.int: row.job_id for row in rows}.values()))


def _build_insert_columns(rows: Sequence[KeyedRow]) -> list[Column]:
    """Builds the columns of an insert, in the order of PIN_COLUMNS."""
    contents = [keyed.row.row for keyed in rows]
    texts = (Column("text", list(map(text_of, contents))) for text_of in _TEXTS)
    return [*to_columns(_COLUMNS_WITHOUT_TEXTS, list(_build_own_values(rows))), *texts]


def _build_own_values(rows: Iterable[KeyedRow]) -> Iterator[tuple[Any, ...]]:
    """Yields each row's values of all columns except the content's texts."""
    microseconds_by_time: dict[datetime, int] = {}
    for keyed in rows:
        row, pin = keyed.row, keyed.row.row
        if (start := microseconds_by_time.get(row.accepted_at)) is None:
            start = microseconds_by_time[row.accepted_at] = (row.accepted_at - EPOCH) // MICROSECOND
        yield (
            keyed.pin_id,
            row.workspace_id,
            pin.account_id,
            pin.asset_id,
            pin.cover_image_asset_id,
            row.fingerprint,
            row.job_id,
            row.row_number,
            keyed.scheduled_for,
            # One microsecond per row keeps the rows' order in lists, without another column in the
            # lists' index
            start + row.row_number,
            None if pin.related_terms is None else orjson.dumps(pin.related_terms).decode(),
        )


def _parse_recorded(rows: Iterable[tuple[Any, ...]]) -> RecordedOutcomes:
    recorded: dict[Origin, StoredOutcome] = {}
    reserved: dict[UUID, tuple[Origin, StoredOutcome]] = {}
    names = [name for name, _ in OUTCOME_COLUMNS]
    for values in rows:
        row = dict(zip(names, values, strict=True))
        origin = Origin(row["job_id"], row["row_number"])
        recorded[origin] = _parse_outcome(row)
        if (pin_id := row["promised_pin_id"]) is not None:
            reserved[pin_id] = (origin, recorded[origin])
    return RecordedOutcomes(recorded, reserved)


def _parse_outcome(row: Row) -> StoredOutcome:
    status, state, fields = row["status"], row["existing_state"], row["differing_fields"]
    failure = Failure(row["error_code"], row["error_message"])
    return StoredOutcome(
        RowStatus(status),
        row["pin_id"],
        row["schedule_id"],
        row["payload_matches"],
        failure=failure if status == RowStatus.FAILED else None,
        existing_state=None if state is None else ExistingState(state),
        differing_fields=None if fields is None else _decode_differences(fields),
    )

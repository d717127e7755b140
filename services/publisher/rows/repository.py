"""The SQL of the row pipeline: batches of rows, and outcomes that were read from Kafka."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import orjson
import psycopg
from psycopg import AsyncCursor
from psycopg.rows import args_row
from sqlalchemy import text

from services.publisher.existing_pins import CONTENT_COLUMNS
from services.publisher.generations import read_keys, release_keys, take_keys
from services.publisher.key_state import KeyState
from services.publisher.model import (
    PIN_COLUMNS,
    PIN_TEXTS,
    STORED_COLUMNS,
    Failure,
    Origin,
    PinState,
    SelectedPin,
)
from services.publisher.outbox_events import build_pin_rescheduled
from services.publisher.outbox_repository import add_events
from services.publisher.rows.keys import (
    Decisions,
    HeldPin,
    JobCanceled,
    JobPartition,
    Key,
    KeySnapshot,
    PinUpdate,
    RecordedState,
    collect_recorded_pins,
    select_restored,
)
from services.publisher.rows.outcomes import ExistingRow, FailedRow, find_result_ids
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
from shared.contract.wire import encode
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
    ("updated", "bool"),
    ("promised_generation", "int4"),
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
_TOMBSTONE_VALUES = {
    **_VALUES,
    "origin_job_id": "null",
    "origin_row": "null",
    "run_at": "null",
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
                and (o.status <> 'created' or o.promised_generation is not null)
        ) and (
            not exists (
                select from publisher.row_outcomes o
                where o.promised_pin_id = r.pin_id
                    and (o.job_id, o.row_number) <> (r.origin_job_id, r.origin_row)
            ) or exists (
                select from publisher.row_outcomes o
                where o.job_id = r.origin_job_id and o.row_number = r.origin_row
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

REQUIRE_NOT_CANCELED = "select publisher.require_not_canceled(%b::uuid[])"
JOB_CANCELED = "PF002"
"""SQLSTATE that the SQL function require_not_canceled raises (migration 0016)."""
SELECT_CANCELED = """
    select job_id, workspace_id, partition, next_offset from publisher.canceled_jobs
    where job_id = any(%b::uuid[])
"""

# A row must restore a later generation, and Postgres lost the first one: the row under the key's
# first pin id is then a deleted pin without an origin
INSERT_TOMBSTONES = f"""
    insert into publisher.pins
        ({column_names(PIN_COLUMNS)}, state, published_at, deleted_at, released_at)
    select {", ".join(_TOMBSTONE_VALUES.get(name, f"r.{name}") for name, _ in PIN_COLUMNS)},
        '{PinState.PUBLISHED}', now(), now(), now()
    from {unnest(PIN_COLUMNS)} as r({column_names(PIN_COLUMNS)})
    order by r.pin_id
    on conflict (pin_id) do nothing
"""
SELECT_HELD = f"""
    select {", ".join(STORED_COLUMNS)}, {", ".join(CONTENT_COLUMNS)},
        coalesce(touched_at, created_at - coalesce(origin_row, 0) * interval '1 microsecond'),
        coalesce(xmin = (select pg_current_xact_id_if_assigned()::xid), false),
        coalesce(generation, 0), current_pin_id
    from publisher.pins where pin_id = any(%b::uuid[])
"""
LOCK_HELD = f"{SELECT_HELD} order by pin_id for update"

_GENERATION_COLUMNS = (*PIN_COLUMNS, ("generation", "int4"))
INSERT_GENERATIONS = f"""
    insert into publisher.pins ({column_names(_GENERATION_COLUMNS)}, state, published_at)
    select {", ".join(_VALUES.get(name, f"r.{name}") for name, _ in _GENERATION_COLUMNS)},
        case when r.run_at is null then 'published' else 'scheduled' end,
        case when r.run_at is null then now() end
    from {unnest(_GENERATION_COLUMNS)} as r({column_names(_GENERATION_COLUMNS)})
    order by r.pin_id
"""
_UPDATE_COLUMNS = (*PIN_COLUMNS, ("touched_at", "timestamptz"))
_CHANGED = ("fingerprint", *(name for name in CONTENT_COLUMNS if name != "idempotency_key"))
UPDATE_PINS = f"""
    update publisher.pins p
    set {", ".join(f"{name} = {_VALUES.get(name, f'r.{name}')}" for name in _CHANGED)},
        state = '{PinState.SCHEDULED}', error_code = null, error_message = null,
        updated_at = now(), touched_at = r.touched_at
    from {unnest(_UPDATE_COLUMNS)} as r({column_names(_UPDATE_COLUMNS)})
    where p.pin_id = r.pin_id
"""

INSERT_OUTCOMES = f"""
    insert into publisher.row_outcomes ({column_names(OUTCOME_COLUMNS)})
    select * from {unnest(OUTCOME_COLUMNS)} order by 1, 2
    on conflict do nothing
"""


class RowTransaction:
    """One transaction that settles rows.

    Call one of `publish` and `read_recorded`, then `record` and `read_contents`. Or call
    `read_state`, `lock_keys` and `write`, in this order.
    """

    def __init__(self, driver: DriverConnection, positions_cursor: AsyncCursor[Any]) -> None:
        self._driver = driver
        self._positions_cursor = positions_cursor
        """The result of the statement that locks the positions: the transaction's time."""
        self._inserted: set[UUID] = set()
        """The pins that `lock_keys` has inserted."""

    async def publish(self, rows: Sequence[KeyedRow], passed: Sequence[KeyedRow]) -> StoreSnapshot:
        """Publishes the rows of `passed` whose keys are free. Reads the stored pins of all keys.

        `passed` are the rows that passed their checks, in the order of `rows`. A row that is
        recorded as created counts as passed. If all passed, also commits, in the same round trip:
        `record` then uses a second transaction. Raises JobCanceled if a row's job is canceled.
        """
        pins = _SelectParameters.from_rows(rows)
        jobs = _collect_job_ids(keyed.row for keyed in rows)
        await self._driver.execute(REQUIRE_NOT_CANCELED, (jobs,), binary=True)
        recorded = await self._select_recorded(jobs, pins.ids)
        if len(passed) == len(rows):
            inserted, existing = await self._insert_and_select(rows, pins)
            await self._driver.commit()  # sent with the other statements, before any result is read
            outcomes = _parse_recorded(await recorded.fetchall())
            return await self._snapshot(rows, outcomes, inserted, existing)
        outcomes = _parse_recorded(await recorded.fetchall())
        publishable = select_publishable(rows, passed, outcomes)
        inserted, existing = await self._insert_and_select(publishable, pins)
        return await self._snapshot(publishable, outcomes, inserted, existing)

    async def read_state(self, rows: Sequence[KeyedRow]) -> RecordedState:
        """Reads what was recorded about the rows and their jobs."""
        jobs = _collect_job_ids(keyed.row for keyed in rows)
        pin_ids = Column("uuid", [keyed.pin_id for keyed in rows])
        recorded = await self._select_recorded(jobs, pin_ids)
        canceled = await self._driver.execute(SELECT_CANCELED, (jobs,), binary=True)
        outcomes = _parse_recorded(await recorded.fetchall())
        parts = {JobPartition(*part): offset for *part, offset in await canceled.fetchall()}
        return RecordedState(outcomes, parts)

    async def lock_keys(
        self, rows: Sequence[KeyedRow], candidates: Sequence[KeyedRow], recorded: RecordedOutcomes
    ) -> KeySnapshot:
        """Publishes the candidates whose keys were never used, and locks the keys of all rows.

        The snapshot is the one before this. `write` then expects the decisions about these rows.
        """
        await self._driver.execute(INSERT_PINS, _build_insert_columns(candidates), binary=True)
        restored = select_restored(candidates, recorded)
        await self._driver.execute(INSERT_TOMBSTONES, _build_insert_columns(restored), binary=True)
        return await self._read_keys(rows, recorded, lock=True)

    async def read_keys(self, rows: Sequence[KeyedRow], recorded: RecordedOutcomes) -> KeySnapshot:
        """Reads the keys of rows without locks. Publishes nothing."""
        return await self._read_keys(rows, recorded, lock=False)

    async def _read_keys(
        self, rows: Sequence[KeyedRow], recorded: RecordedOutcomes, *, lock: bool
    ) -> KeySnapshot:
        ((now,),) = await self._positions_cursor.fetchall()
        first_ids = {keyed.pin_id for keyed in rows}
        # All first rows are locked before any other pin. Otherwise two batches deadlock (measured):
        # one would lock a new generation's pin after its key, the other in the order of the ids
        keys = await read_keys(self._driver, first_ids, lock=lock)
        last_ids = {key.last_pin_id for key in keys.values()}
        held = await self._select_held(
            first_ids | last_ids | collect_recorded_pins(recorded), lock=lock
        )
        used = {pin_id: held[pin_id] for pin_id in first_ids & held.keys()}
        self._inserted = {pin_id for pin_id, row in used.items() if row.is_inserted}
        keys_before = {
            pin_id: Key(
                row.key.generation,
                held[row.key.last_pin_id].pin,
                row.key.released_at,
                is_free=row.key.is_free,
            )
            for pin_id, row in used.items()
            if pin_id not in self._inserted
        }
        pins = {pin_id: row.pin for pin_id, row in held.items()}
        return KeySnapshot(recorded, keys_before, pins, now)

    async def _select_held(
        self, pin_ids: Collection[UUID], *, lock: bool
    ) -> dict[UUID, "_HeldRow"]:
        statement = LOCK_HELD if lock else SELECT_HELD
        parameters = [Column("uuid", list(pin_ids))]
        cursor = await self._driver.execute(statement, parameters, binary=True)
        rows = [_parse_held(row) for row in await cursor.fetchall()]
        return {row.pin.stored.pin_id: row for row in rows}

    async def write(self, decisions: Decisions) -> None:
        """Writes decisions about the rows and keys that `lock_keys` has locked."""
        if decisions.inserted != self._inserted:
            message = (
                f"Postgres inserted {len(self._inserted)} pins of new keys, the decisions have "
                f"{len(decisions.inserted)}"
            )
            raise AssertionError(message)
        if decisions.generations:
            rows, numbers = zip(*decisions.generations, strict=True)
            columns = [*_build_insert_columns(rows), Column("int4", numbers)]
            await self._driver.execute(INSERT_GENERATIONS, columns, binary=True)
        await release_keys(self._driver, decisions.released)
        await take_keys(self._driver, list(decisions.taken.values()))
        if decisions.updates:
            await self._update(list(decisions.updates.values()))
        await self.record([row for row in decisions.recorded if isinstance(row, FailedRow)])
        existing = [row for row in decisions.recorded if isinstance(row, ExistingRow)]
        if existing:
            columns = to_columns(OUTCOME_COLUMNS, map(_build_existing_values, existing))
            await self._driver.execute(INSERT_OUTCOMES, columns)

    async def _update(self, updates: Sequence[PinUpdate]) -> None:
        rows = [update.keyed for update in updates]
        times = Column("timestamptz", [keyed.row.accepted_at for keyed in rows])
        columns = [*_build_insert_columns(rows), times]
        await self._driver.execute(UPDATE_PINS, columns, binary=True)
        cursor = await self._driver.execute("select now()", binary=True)
        ((now,),) = await cursor.fetchall()
        events = [
            build_pin_rescheduled(_build_event_values(update, now))
            for update in updates
            if update.is_announced
        ]
        await add_events(self._driver, events)

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
    ) -> tuple[AsyncCursor[Any], AsyncCursor[SelectedPin]]:
        """Sends the insert of the publishable rows and the select of all rows' existing pins."""
        values = _build_insert_columns(publishable)
        inserted = await self._driver.execute(INSERT_PINS, values, binary=True)
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

        Commits at the block's end. Raises PositionBehind, JobCanceled, and ValueRejected if
        Postgres rejects a value.
        """
        try:
            async with self._database.pipeline() as driver:
                cursor = await self.positions.lock(driver, advance, moves=moves)
                yield RowTransaction(driver, cursor)
        except psycopg.DatabaseError as error:
            if error.diag.sqlstate == JOB_CANCELED:
                raise JobCanceled from error
            raise
        if moves:
            self.positions.mark_stored(advance)

    @asynccontextmanager
    async def read_only(self) -> AsyncIterator[RowTransaction]:
        """Opens a transaction that can't write, with one snapshot for all its statements."""
        async with self._database.pipeline() as driver:
            await driver.execute("set transaction isolation level repeatable read, read only")
            yield RowTransaction(driver, await driver.execute("select now()", binary=True))

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


class _HeldRow(NamedTuple):
    """A row of SELECT_HELD."""

    pin: HeldPin
    key: KeyState
    """Says who has the key if the row is under the key's first pin id."""
    is_inserted: bool
    """True if this transaction has inserted the pin, and it has the key."""


def _parse_held(row: tuple[Any, ...]) -> _HeldRow:
    end = len(STORED_COLUMNS) + len(CONTENT_COLUMNS)
    stored = SelectedPin(*row[: len(STORED_COLUMNS)])
    content = dict(zip(CONTENT_COLUMNS, row[len(STORED_COLUMNS) : end], strict=True))
    content_as_of, is_new, generation, current_pin_id = row[end:]
    key = KeyState(
        stored.pin_id,
        stored.workspace_id,
        stored.idempotency_key,
        generation,
        stored.released_at,
        current_pin_id,
    )
    pin = HeldPin(stored, PinContent(**content), content_as_of)
    return _HeldRow(pin, key, is_new and stored.released_at is None)


def _build_existing_values(outcome: ExistingRow) -> tuple[Any, ...]:
    """Builds the values of an existing row, in the order of OUTCOME_COLUMNS."""
    row, fields = outcome.keyed.row, outcome.differing_fields
    return (
        row.job_id,
        row.row_number,
        RowStatus.EXISTING,
        *find_result_ids(outcome),
        outcome.payload_matches,
        None,
        None,
        None,
        outcome.state,
        None if fields is None else encode(fields).decode(),
        outcome.updated or None,
        None,
    )


def _build_event_values(update: PinUpdate, now: datetime) -> dict[str, Any]:
    pin, stored = update.keyed.row.row, update.stored
    return {
        "pin_id": stored.pin_id,
        "workspace_id": stored.workspace_id,
        "account_id": pin.account_id,
        "board_id": pin.board_id,
        "idempotency_key": stored.idempotency_key,
        "origin_job_id": stored.origin_job_id,
        "origin_row": stored.origin_row,
        "run_at": stored.run_at,
        "updated_at": now,
    }


def _parse_recorded(rows: Iterable[tuple[Any, ...]]) -> RecordedOutcomes:
    recorded: dict[Origin, StoredOutcome] = {}
    reserved: dict[UUID, tuple[Origin, StoredOutcome]] = {}
    names = [name for name, _ in OUTCOME_COLUMNS]
    for values in rows:
        row = dict(zip(names, values, strict=True))
        origin = Origin(row["job_id"], row["row_number"])
        outcome = recorded[origin] = _parse_outcome(row)
        if (pin_id := row["promised_pin_id"]) is not None:
            # The key's last pin had the highest generation
            earlier = reserved.get(pin_id)
            if earlier is None or _get_generation(earlier[1]) < _get_generation(outcome):
                reserved[pin_id] = (origin, outcome)
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
        updated=row["updated"],
        promised_generation=row["promised_generation"],
    )


def _get_generation(outcome: StoredOutcome) -> int:
    return outcome.promised_generation or 0

"""The SQL of the locking path: rows that are decided one after the other (keys.py)."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncCursor

from services.publisher.existing_pins import CONTENT_COLUMNS
from services.publisher.generations import read_keys, record_created, release_keys, take_keys
from services.publisher.key_state import KeyState
from services.publisher.model import PIN_COLUMNS, STORED_COLUMNS, PinState, SelectedPin
from services.publisher.outbox_events import PinChange, build_change_event
from services.publisher.outbox_repository import add_events
from services.publisher.rows.cancellation import JobPartition
from services.publisher.rows.key_snapshot import (
    Decisions,
    HeldPin,
    Key,
    KeySnapshot,
    PinUpdate,
    RecordedState,
)
from services.publisher.rows.keys import collect_recorded_pins, select_restored
from services.publisher.rows.outcomes import ExistingRow, FailedRow
from services.publisher.rows.pin_inserts import (
    INSERT_TOMBSTONES,
    PIN_VALUES,
    build_generations_insert,
    build_insert_columns,
    build_pins_insert,
)
from services.publisher.rows.recorded_outcomes import (
    collect_job_ids,
    parse_recorded,
    record_existing,
    record_failures,
    select_recorded,
)
from services.publisher.rows.snapshot import KeyedRow, RecordedOutcomes
from shared.contract.errors import ErrorCode
from shared.contract.events import PinContent
from shared.postgres.arrays import Column, column_names, unnest
from shared.postgres.database import DriverConnection

SELECT_CANCELED = """
    select job_id, workspace_id, partition, next_offset from publisher.canceled_jobs
    where job_id = any(%b::uuid[])
"""

# The time since which the pin has its content; whether Pinterest may have it; whether this
# transaction has inserted it; and the state of the key, if this is the row under its first pin id
SELECT_HELD = f"""
    select {", ".join(STORED_COLUMNS)}, {", ".join(CONTENT_COLUMNS)},
        coalesce(touched_at, created_at - coalesce(origin_row, 0) * interval '1 microsecond'),
        delivery is not null and removed_at is null and (
            pinterest_pin_id is not null
            or coalesce(error_code = '{ErrorCode.PUBLISH_UNCONFIRMED}', false)
            or exists (
                select from publisher.delivery_attempts a
                where a.pin_id = p.pin_id and coalesce(a.outcome, 'unconfirmed') = 'unconfirmed'
            )
        ),
        coalesce(xmin = (select pg_current_xact_id_if_assigned()::xid), false),
        coalesce(generation, 0), current_pin_id
    from publisher.pins p where pin_id = any(%b::uuid[])
"""
LOCK_HELD = f"{SELECT_HELD} order by pin_id for update"

_UPDATE_COLUMNS = (*PIN_COLUMNS, ("touched_at", "timestamptz"), ("state", "text"))
_CHANGED = (
    "fingerprint",
    *(name for name in CONTENT_COLUMNS if name != "idempotency_key"),
    "touched_at",
    "state",
)
UPDATE_PINS = f"""
    update publisher.pins p
    set {", ".join(f"{name} = {PIN_VALUES.get(name, f'r.{name}')}" for name in _CHANGED)},
        error_code = null, error_message = null, deliver_after = null, deferral_code = null,
        updated_at = now()
    from {unnest(_UPDATE_COLUMNS)} as r({column_names(_UPDATE_COLUMNS)})
    where p.pin_id = r.pin_id
"""


class KeyTransaction:
    """One transaction of the locking path.

    Call `read_state`, `lock_keys` and `write`, in this order. Or read only: `read_state`, then
    `read_keys`.
    """

    def __init__(self, driver: DriverConnection, positions_cursor: AsyncCursor[Any]) -> None:
        self._driver = driver
        self._positions_cursor = positions_cursor
        """The result of the statement that locks the positions: the transaction's time."""
        self._inserted: set[UUID] = set()
        """The pins that `lock_keys` has inserted."""

    async def read_state(self, rows: Sequence[KeyedRow]) -> RecordedState:
        """Reads what was recorded about the rows and their jobs."""
        jobs = collect_job_ids(keyed.row for keyed in rows)
        pin_ids = Column("uuid", [keyed.pin_id for keyed in rows])
        recorded = await select_recorded(self._driver, jobs, pin_ids)
        canceled = await self._driver.execute(SELECT_CANCELED, (jobs,), binary=True)
        outcomes = parse_recorded(await recorded.fetchall())
        parts = {JobPartition(*part): offset for *part, offset in await canceled.fetchall()}
        return RecordedState(outcomes, parts)

    async def lock_keys(
        self, rows: Sequence[KeyedRow], candidates: Sequence[KeyedRow], recorded: RecordedOutcomes
    ) -> KeySnapshot:
        """Publishes the candidates whose keys were never used, and locks the keys of all rows.

        The snapshot shows the keys before this publication. `write` then takes the decisions about
        these rows.
        """
        statement, values = build_pins_insert(candidates)
        await self._driver.execute(statement, values, binary=True)
        restored = select_restored(candidates, recorded)
        await self._driver.execute(INSERT_TOMBSTONES, build_insert_columns(restored), binary=True)
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
            statement, values = build_generations_insert(rows, numbers)
            await self._driver.execute(statement, values, binary=True)
        await release_keys(self._driver, decisions.released)
        await take_keys(self._driver, list(decisions.taken.values()))
        if decisions.updates:
            await self._update(list(decisions.updates.values()))
        recorded = decisions.recorded
        await record_failures(self._driver, [row for row in recorded if isinstance(row, FailedRow)])
        await record_existing(
            self._driver, [row for row in recorded if isinstance(row, ExistingRow)]
        )

    async def _update(self, updates: Sequence[PinUpdate]) -> None:
        rows = [update.keyed for update in updates]
        times = Column("timestamptz", [keyed.row.accepted_at for keyed in rows])
        states = Column("text", [update.stored.state for update in updates])
        columns = [*build_insert_columns(rows), times, states]
        await self._driver.execute(UPDATE_PINS, columns, binary=True)
        await record_created(self._driver, _build_created_values(updates))
        cursor = await self._driver.execute("select now()", binary=True)
        ((now,),) = await cursor.fetchall()
        events = [
            build_change_event(_find_change(update), _build_event_values(update, now))
            for update in updates
            if update.is_announced
        ]
        await add_events(self._driver, events)


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
    content_as_of, may_be_on_pinterest, is_new, generation, current_pin_id = row[end:]
    key = KeyState(
        stored.pin_id,
        stored.workspace_id,
        stored.idempotency_key,
        generation,
        stored.released_at,
        current_pin_id,
    )
    pin = HeldPin(stored, PinContent(**content), content_as_of, may_be_on_pinterest)
    return _HeldRow(pin, key, is_new and stored.released_at is None)


def _build_created_values(updates: Iterable[PinUpdate]) -> list[tuple[Any, ...]]:
    """Builds the outcomes of the rows whose pins get their first time.

    A release reads from `run_at` which ids such a row reports, but its pin had none then.
    """
    pins = [update.stored for update in updates if update.becomes_schedule]
    return [
        (pin.origin_job_id, pin.origin_row, pin.pin_id, None)
        for pin in pins
        if pin.origin_job_id is not None
    ]


def _find_change(update: PinUpdate) -> PinChange:
    is_queued = update.stored.state == PinState.QUEUED
    return PinChange.QUEUED if is_queued else PinChange.RESCHEDULED


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

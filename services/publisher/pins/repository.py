"""The SQL of pins and schedules for HTTP, except for lists.

Each change is one transaction. If the change is announced, its event is added to the outbox.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from operator import add
from typing import Any, assert_never
from uuid import UUID

from psycopg.rows import dict_row
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.publisher.generations import read_keys, take_keys
from services.publisher.grouping import group_by_change
from services.publisher.key_state import KeyState, TakenKey
from services.publisher.lost_pins import LostPins, RequireCurrentDatabase
from services.publisher.model import PinState
from services.publisher.outbox_events import (
    OutboxEvent,
    build_change_event,
    build_pin_created,
    build_pin_scheduled,
)
from services.publisher.outbox_repository import add_events
from services.publisher.pins.creation import NewPin, PinOfKey
from services.publisher.pins.statements import (
    GENERATION_COLUMNS,
    INSERT_COLUMNS,
    INSERT_GENERATIONS,
    INSERT_PINS,
    IS_DUE,
    IS_LATER,
    SELECT_PINS_OF_KEYS,
    SELECT_RESERVED,
    build_insert_values,
    build_select,
    build_select_of_key,
    build_values,
)
from services.publisher.pins.transitions import (
    CommandResult,
    Decision,
    NoOp,
    Skipped,
    Update,
    Updated,
)
from services.publisher.tables import pins
from shared.contract.errors import ApiError
from shared.postgres.arrays import Column, to_columns
from shared.postgres.database import Database, DriverConnection, driver_connection
from shared.postgres.row import Row


class LockedPins:
    """Rows of a workspace, locked until the transaction ends.

    `rows` has every requested id, in order. The value is None if the workspace has no such row.
    """

    def __init__(
        self, connection: AsyncConnection, workspace_id: UUID, rows: dict[UUID, Row | None]
    ) -> None:
        self._connection = connection
        self._workspace_id = workspace_id
        self.rows = rows

    async def apply(self, decisions: dict[UUID, Decision | ApiError]) -> dict[UUID, CommandResult]:
        """Writes the updates and their events. Returns the result of each decision, by pin id.

        Sets `touched_at`: an undo of the import leaves these pins.
        """
        updates = {
            pin_id: decision
            for pin_id, decision in decisions.items()
            if isinstance(decision, Update)
        }
        changes = {pin_id: decision.values for pin_id, decision in updates.items()}
        for change, ids in group_by_change(changes):
            conditions = (pins.c.workspace_id == self._workspace_id, pins.c.pin_id.in_(ids))
            await self._connection.execute(
                update(pins)
                .where(*conditions)
                .values(**change, updated_at=func.now(), touched_at=func.now())
            )
        updated = {
            pin_id: _apply_change(self._require_row(pin_id), change)
            for pin_id, change in changes.items()
        }
        events = [
            build_change_event(decision.announced_change, updated[pin_id])
            for pin_id, decision in updates.items()
            if decision.announced_change
        ]
        await add_events(await driver_connection(self._connection), events)
        return {
            pin_id: self._build_result(pin_id, decision, updated)
            for pin_id, decision in decisions.items()
        }

    def _build_result(
        self, pin_id: UUID, decision: Decision | ApiError, updated: dict[UUID, Row]
    ) -> CommandResult:
        match decision:
            case Update():
                return Updated(updated[pin_id])
            case NoOp(message):
                return Skipped(self._require_row(pin_id), message)
            case ApiError():
                return decision
            case _:
                assert_never(decision)

    def _require_row(self, pin_id: UUID) -> Row:
        if (row := self.rows[pin_id]) is None:
            raise AssertionError("The decision is about a row that does not exist.")
        return row


class LockedPin:
    """One row, locked until the transaction ends."""

    def __init__(self, pin_id: UUID, locked: LockedPins) -> None:
        self._pin_id = pin_id
        self._locked = locked
        self.row = locked.rows[pin_id]

    async def apply(self, decision: Decision) -> Row:
        """Writes the decision. Returns the row after it. Raises ApiError."""
        result = (await self._locked.apply({self._pin_id: decision}))[self._pin_id]
        if isinstance(result, ApiError):
            raise result
        return result.row


class PinRepository:
    """Reads, creates and locks pins. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(
        self, database: Database, require_current_database: RequireCurrentDatabase
    ) -> None:
        """Takes a check that rejects a connection to a possibly older copy of Postgres."""
        self._database = database
        self._lost_pins = LostPins(database, require_current_database)

    async def find(self, workspace_id: UUID, pin_id: UUID) -> Row | None:
        """Finds the workspace's row with the id, in any state, including deleted rows.

        Takes no lock, so the row may change afterwards.
        """
        return (await self.find_all(workspace_id, [pin_id])).get(pin_id)

    async def find_of_key(self, workspace_id: UUID, first_pin_id: UUID) -> Row | None:
        """Finds the pin that has a key, by the key's first pin id. Returns None if it is free."""
        return await self._database.fetch_first(build_select_of_key(workspace_id, first_pin_id))

    async def find_all(self, workspace_id: UUID, pin_ids: Collection[UUID]) -> dict[UUID, Row]:
        rows = await self._database.fetch_all(build_select(workspace_id, pin_ids))
        return {row["pin_id"]: row for row in rows}

    @asynccontextmanager
    async def locked(self, workspace_id: UUID, pin_id: UUID) -> AsyncIterator[LockedPin]:
        """Opens a transaction that changes one row."""
        async with self.locked_all(workspace_id, [pin_id]) as locked:
            yield LockedPin(pin_id, locked)

    @asynccontextmanager
    async def locked_all(
        self, workspace_id: UUID, pin_ids: Collection[UUID]
    ) -> AsyncIterator[LockedPins]:
        """Opens a transaction that changes rows.

        Waits for rows that the scheduler has locked. The scheduler skips rows that are locked here,
        until its next batch. So the second transaction decides from the first one's result.
        """
        ordered = build_select(workspace_id, pin_ids).order_by(IS_LATER, pins.c.pin_id)
        statement = ordered.with_for_update()
        async with self._database.transaction() as connection:
            selected = (await connection.execute(statement)).mappings()
            rows = {row["pin_id"]: dict(row) for row in selected}
            yield LockedPins(
                connection, workspace_id, {pin_id: rows.get(pin_id) for pin_id in pin_ids}
            )

    async def publish(self, pin: NewPin) -> PinOfKey:
        """Publishes a pin if its key is free, otherwise returns the key's existing pin.

        The pin of a connected account is queued for its delivery to Pinterest instead. Another
        call or an import may win the race for the key. Raises ApiError (503) as `publish_all` does.
        """
        state: dict[str, Any] = {"run_at": None, "state": PinState.QUEUED}
        if not pin.is_connected:
            state |= {"state": PinState.PUBLISHED, "published_at": func.now()}
        return await self._create(pin, state, build_pin_created)

    async def schedule(self, schedule: NewPin) -> PinOfKey:
        """Creates a schedule under the rules of `publish`."""
        return await self._create(schedule, {"state": PinState.SCHEDULED}, build_pin_scheduled)

    async def publish_all(
        self, new: Sequence[NewPin], pin_ids: Collection[UUID]
    ) -> dict[UUID, PinOfKey]:
        """Publishes the pins of `new` whose keys are free. No two may have the same key.

        Returns the pins that then have the keys of `pin_ids`, which are the keys' first pin ids.
        Raises ApiError (503) for all pins while a key may belong to a row that is yet to be
        published again after a restore.
        """
        try:
            return await self._publish_first(new, pin_ids)
        except _KeyReleased:
            return await self._publish_again(new, pin_ids)

    async def _publish_first(
        self, new: Sequence[NewPin], pin_ids: Collection[UUID]
    ) -> dict[UUID, PinOfKey]:
        """Publishes under the keys' first pin ids. Raises _KeyReleased if that is not enough."""
        async with self._database.pipeline() as driver:
            await self._require_free(driver, [pin.pin_id for pin in new])
            inserted = await driver.execute(
                INSERT_PINS, to_columns(INSERT_COLUMNS, build_insert_values(new)), binary=True
            )
            rows = await _select_rows(driver, pin_ids)
            created = {pin_id for (pin_id,) in await inserted.fetchall()}
            _require_never_released(rows)
            await add_events(
                driver,
                [build_pin_created(rows[pin.pin_id]) for pin in new if pin.pin_id in created],
            )
        return {pin_id: PinOfKey(row, pin_id in created) for pin_id, row in rows.items()}

    async def _publish_again(
        self, new: Sequence[NewPin], pin_ids: Collection[UUID]
    ) -> dict[UUID, PinOfKey]:
        """Publishes the pins of `new` under the next ids of keys that were released.

        Inserts the first pins of keys first and locks the keys then, as imports do: otherwise the
        two can deadlock.
        """
        async with self._database.pipeline() as driver:
            await self._require_free(driver, [pin.pin_id for pin in new])
            inserted = await driver.execute(
                INSERT_PINS, to_columns(INSERT_COLUMNS, build_insert_values(new)), binary=True
            )
            keys = await read_keys(driver, pin_ids, lock=True)
            created = {pin_id for (pin_id,) in await inserted.fetchall()}
            taken = {pin.pin_id: _take(keys[pin.pin_id]) for pin in new if _may_take(pin, keys)}
            await _insert_generations(driver, new, taken)
            created |= {key.pin_id for key in taken.values()}
            holders = {
                first_id: holder
                for first_id, key in keys.items()
                if (holder := _find_holder(key, taken.get(first_id))) is not None
            }
            rows = await _select_rows(driver, holders.values())
            published = [holders[pin.pin_id] for pin in new if holders[pin.pin_id] in created]
            await add_events(driver, [build_pin_created(rows[pin_id]) for pin_id in published])
        return {
            first_id: PinOfKey(rows[holder], holder in created)
            for first_id, holder in holders.items()
        }

    async def _create(
        self, pin: NewPin, state: dict[str, Any], event: Callable[[Row], OutboxEvent]
    ) -> PinOfKey:
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            await self._require_free(driver, [pin.pin_id])
            created = await _insert(connection, pin, state)
            if created is None:
                # A separate statement: only its snapshot has the row that the insert conflicted
                # with
                existing = await _select_row(connection, pin.pin_id)
                if existing["released_at"] is None:
                    return PinOfKey(existing, is_new=False)
                key = (await read_keys(driver, [pin.pin_id], lock=True))[pin.pin_id]
                if not _may_take(pin, {pin.pin_id: key}):
                    holder = await _select_row(connection, key.current_pin_id or pin.pin_id)
                    return PinOfKey(holder, is_new=False)
                created = await _insert_generation(connection, pin, state, _take(key))
            await add_events(driver, [event(created)])
            return PinOfKey(created, is_new=True)

    async def _require_free(self, driver: DriverConnection, pin_ids: Sequence[UUID]) -> None:
        """Raises ApiError (503) while a key may be reserved for a row, as `publish_all` says."""
        await self._lost_pins.require_none(
            driver,
            SELECT_RESERVED,
            [Column("uuid", pin_ids)],
            "a pin with an idempotency key of this request",
        )


class _KeyReleased(Exception):
    """A key of the request was released, so that its pins have further ids."""


def _require_never_released(rows: Mapping[UUID, Row]) -> None:
    if any(row["released_at"] is not None for row in rows.values()):
        raise _KeyReleased


def _may_take(pin: NewPin, keys: Mapping[UUID, KeyState]) -> bool:
    """Returns whether the pin may take its key, which was used and released before.

    Another key may have the same hash, and so the same first pin id.
    """
    key = keys.get(pin.pin_id)
    owner = (pin.workspace_id, pin.content.idempotency_key)
    return key is not None and key.is_free and (key.workspace_id, key.idempotency_key) == owner


def _find_holder(key: KeyState, taken: TakenKey | None) -> UUID | None:
    """Returns the pin that has the key after `taken`. None if the key is free."""
    if taken is not None:
        return taken.pin_id
    return key.first_pin_id if key.released_at is None else key.current_pin_id


def _take(key: KeyState) -> TakenKey:
    return TakenKey(key.first_pin_id, key.next_pin_id, key.generation + 1)


async def _insert_generation(
    connection: AsyncConnection, pin: NewPin, state: dict[str, Any], taken: TakenKey
) -> Row:
    """Inserts a pin that takes its released key."""
    await take_keys(await driver_connection(connection), [taken])
    next_pin = pin._replace(pin_id=taken.pin_id)
    created = await _insert(connection, next_pin, state, taken.generation)
    if created is None:
        raise AssertionError("A pin exists under an id of a later generation.")
    return created


async def _insert_generations(
    driver: DriverConnection, new: Iterable[NewPin], taken: Mapping[UUID, TakenKey]
) -> None:
    """Publishes the pins of `new` that take their released keys. `taken` is by first pin id."""
    pins_and_keys = [(pin, taken[pin.pin_id]) for pin in new if pin.pin_id in taken]
    later = [pin._replace(pin_id=key.pin_id) for pin, key in pins_and_keys]
    numbers = [(key.generation,) for _, key in pins_and_keys]
    values = to_columns(GENERATION_COLUMNS, map(add, build_insert_values(later), numbers))
    await take_keys(driver, list(taken.values()))
    await driver.execute(INSERT_GENERATIONS, values, binary=True)


async def _select_row(connection: AsyncConnection, pin_id: UUID) -> Row:
    statement = select(pins, IS_DUE).where(pins.c.pin_id == pin_id)
    return dict((await connection.execute(statement)).mappings().one())


async def _insert(
    connection: AsyncConnection, pin: NewPin, state: dict[str, Any], generation: int | None = None
) -> Row | None:
    """Inserts a pin. Returns None if there is one with this id."""
    values = {**build_values(pin), "created_at": func.now(), "generation": generation, **state}
    statement = (
        insert(pins)
        .values(**values)
        .on_conflict_do_nothing(index_elements=[pins.c.pin_id])
        .returning(pins, IS_DUE)
    )
    row = (await connection.execute(statement)).mappings().first()
    return None if row is None else dict(row)


async def _select_rows(driver: DriverConnection, pin_ids: Collection[UUID]) -> dict[UUID, Row]:
    cursor = driver.cursor(binary=True, row_factory=dict_row)
    await cursor.execute(SELECT_PINS_OF_KEYS, (Column("uuid", list(pin_ids)),))
    return {row["pin_id"]: row for row in await cursor.fetchall()}


def _apply_change(row: Row, change: dict[str, Any]) -> Row:
    after = {**row, **change, "updated_at": row["now"], "touched_at": row["now"]}
    is_due = after["state"] == PinState.SCHEDULED and after["run_at"] <= row["now"]
    return {**after, "is_due": is_due}

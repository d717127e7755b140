"""All SQL with which HTTP changes pins and schedules: each a transaction, its events in the outbox
with it.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import orjson
from msgspec.structs import asdict
from psycopg.rows import dict_row
from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.publisher.ids import pin_id_of
from services.publisher.pins.repository import IS_DUE
from services.publisher.pins.transitions import AsAsked, Change, Decide
from services.publisher.rows.events import OutboxEvent, pin_published, pin_scheduled
from services.publisher.rows.outcomes import PinState
from services.publisher.rows.repository import COLUMNS, alike
from services.publisher.tables import outbox, pins
from shared.contract.errors import RETRY_AFTER, ErrorCode, PositionBehind, RequestRefused
from shared.contract.events import PinContent
from shared.contract.pins import fingerprint
from shared.postgres.arrays import Column, columns, names, unnest
from shared.postgres.database import Database, DriverConnection, driver_connection
from shared.postgres.row import Row


class Direct(NamedTuple):
    """A pin or schedule of a direct call."""

    pin_id: UUID
    workspace_id: UUID
    content: PinContent
    fingerprint: UUID

    @classmethod
    def of(cls, workspace_id: UUID, content: PinContent) -> "Direct":
        return cls(
            pin_id_of(workspace_id, content.idempotency_key),
            workspace_id,
            content,
            fingerprint(content),
        )


class Changed(NamedTuple):
    row: Row


class Kept(NamedTuple):
    """Nothing was to be done."""

    row: Row
    message: str


Verdict = Changed | Kept | RequestRefused

Confirm: TypeAlias = Callable[[float], Awaitable[None]]
"""Checks a connection by the time when it was made (OutcomeHistory.confirm). Raises Unavailable."""

_VALUES = {
    "created_at": "now() + r.created_at * interval '1 microsecond'",
    "related_terms": "r.related_terms::json",
}
"""A microsecond a pin gives each its place in lists, as an imported row's does; here just before
now, when they are published.
"""

# Sorted by id, as every statement that inserts or locks several pins: or two with overlapping keys
# deadlock
_INSERT = f"""
    insert into publisher.pins ({names(COLUMNS)}, state, published_at)
    select {", ".join(_VALUES.get(name, f"r.{name}") for name, _ in COLUMNS)}, '{PinState.PUBLISHED}', now()
    from {unnest(COLUMNS)} as r({names(COLUMNS)})
    order by r.pin_id
    on conflict (pin_id) do nothing
    returning pin_id
"""
# Keys of rows that a lost Postgres had created and that are not published again yet
_PROMISED = """
    select promised_pin_id from publisher.row_outcomes o
    where promised_pin_id = any(%b::uuid[])
        and not exists (select from publisher.pins p where p.pin_id = o.promised_pin_id)
"""
# A statement of its own sees the rows that the conflicts were with
_SELECT = f"select {', '.join(pins.c.keys())} from publisher.pins where pin_id = any(%b::uuid[])"

_OUTBOX = (
    ("event_type", "text"),
    ("event_id", "text"),
    ("key", "text"),
    ("payload", "text"),
    ("occurred_at", "timestamptz"),
)
_ANNOUNCE = f"""
    insert into publisher.outbox ({names(_OUTBOX)})
    select r.event_type, r.event_id, r.key, convert_to(r.payload, 'UTF8'), r.occurred_at
    from {unnest(_OUTBOX)} with ordinality as r({names(_OUTBOX)}, position)
    order by r.position
"""


class PinCommands:
    """Raises DatabaseUnavailable when Postgres is away."""

    def __init__(self, database: Database, confirm: Confirm) -> None:
        """`confirm` refuses a connection that may lead to an older copy of Postgres."""
        self._database = database
        self._confirm = confirm

    async def publish_directly(self, pin: Direct) -> tuple[Row, bool]:
        """Publish one pin that no import brought. Returns what stands under its key, and whether
        this call made it.

        The event stands in the outbox with it. A call that loses the race for the key finds the
        winner.
        """
        return await self._enter(
            pin, {"run_at": None, "state": PinState.PUBLISHED, "published_at": func.now()}
        )

    async def schedule_directly(self, schedule: Direct) -> tuple[Row, bool]:
        """The same for a later time."""
        return await self._enter(schedule, {"state": PinState.SCHEDULED})

    async def publish_all(
        self, made: Sequence[Direct], pin_ids: Collection[UUID]
    ) -> tuple[dict[UUID, Row], set[UUID]]:
        """Publishes those of `made` whose keys are free. No two may have the same key.

        Returns what stands under `pin_ids` then, and the new ids. Raises RequestRefused (503) while
        a key may belong to a row that is read again.
        """
        async with self._database.pipeline() as driver:
            await self._require_free(driver, [pin.pin_id for pin in made])
            inserted = await driver.execute(
                _INSERT, columns(COLUMNS, _values_of(made)), binary=True
            )
            selected = await driver.cursor(binary=True, row_factory=dict_row).execute(
                _SELECT, (Column("uuid", list(pin_ids)),)
            )
            new = {pin_id for (pin_id,) in await inserted.fetchall()}
            stands: dict[UUID, Row] = {row["pin_id"]: row for row in await selected.fetchall()}
            if new:
                await _announce(
                    driver, [pin_published(stands[one.pin_id]) for one in made if one.pin_id in new]
                )
        return stands, new

    async def find(self, workspace_id: UUID, pin_ids: Collection[UUID]) -> dict[UUID, Row]:
        """Whatever of the workspace's stands under the ids, for a first look: it may be another
        thing under lock.
        """
        return {
            row["pin_id"]: row for row in await self._database.all(_standing(workspace_id, pin_ids))
        }

    async def change(
        self, workspace_id: UUID, pin_ids: Collection[UUID], decide: Decide
    ) -> dict[UUID, Verdict]:
        """Decide on each row under its lock, and write what comes of it: all in one transaction.

        What the scheduler is about to publish is waited for, and what is locked here it passes over
        until its next look: of two that want a row, the second decides on what the first has made
        of it.
        """
        locked = _standing(workspace_id, pin_ids).order_by(pins.c.pin_id).with_for_update()
        async with self._database.transaction() as connection:
            rows: dict[UUID, Row] = {
                row["pin_id"]: dict(row) for row in (await connection.execute(locked)).mappings()
            }
            decided = {pin_id: _decided(decide, rows.get(pin_id)) for pin_id in pin_ids}
            changes = {pin_id: one for pin_id, one in decided.items() if isinstance(one, Change)}
            for values, ids in alike({pin_id: change.values for pin_id, change in changes.items()}):
                ours = (pins.c.workspace_id == workspace_id, pins.c.pin_id.in_(ids))
                await connection.execute(
                    update(pins).where(*ours).values(**values, updated_at=func.now())
                )
            after = {pin_id: _after(rows[pin_id], change) for pin_id, change in changes.items()}
            await _wait_in_outbox(
                connection,
                [change.event(after[pin_id]) for pin_id, change in changes.items() if change.event],
            )
        return {
            pin_id: _verdict(one, after.get(pin_id, rows.get(pin_id)))
            for pin_id, one in decided.items()
        }

    async def _require_free(self, driver: DriverConnection, pin_ids: Sequence[UUID]) -> None:
        """Raises RequestRefused (503) while a key may belong to a row that is read again."""
        try:
            await self._confirm(self._database.made_at(driver))
            cursor = await driver.execute(_PROMISED, [Column("uuid", pin_ids)], binary=True)
            is_free = not await cursor.fetchall()
        except PositionBehind:
            is_free = False
        if not is_free:
            message = (
                "Postgres may have been restored from a backup, and a row with this idempotency "
                "key may be published again. Send the request again in some minutes."
            )
            status = HTTPStatus.SERVICE_UNAVAILABLE
            raise RequestRefused(ErrorCode.KEY_RECOVERING, message, status, headers=RETRY_AFTER)

    async def _enter(self, pin: Direct, state: dict[str, Any]) -> tuple[Row, bool]:
        about = {
            "pin_id": pin.pin_id,
            "workspace_id": pin.workspace_id,
            "fingerprint": pin.fingerprint,
            "created_at": func.now(),
        }
        statement = (
            insert(pins)
            .values(**{**asdict(pin.content), **about, **state})
            .on_conflict_do_nothing(index_elements=[pins.c.pin_id])
            .returning(pins, IS_DUE.label("is_due"))
        )
        async with self._database.transaction() as connection:
            await self._require_free(await driver_connection(connection), [pin.pin_id])
            made = (await connection.execute(statement)).mappings().first()
            if made is not None:
                event = pin_published if made["state"] == PinState.PUBLISHED else pin_scheduled
                await _wait_in_outbox(connection, [event(dict(made))])
                return dict(made), True
            # A statement of its own sees the row that the conflict was with
            standing = select(pins, IS_DUE.label("is_due")).where(pins.c.pin_id == pin.pin_id)
            return dict((await connection.execute(standing)).mappings().one()), False


def _standing(workspace_id: UUID, pin_ids: Collection[UUID]) -> Select[Any]:
    about = (IS_DUE.label("is_due"), func.now().label("now"))
    return select(pins, *about).where(
        pins.c.workspace_id == workspace_id, pins.c.pin_id.in_(pin_ids)
    )


def _decided(decide: Decide, row: Row | None) -> Change | AsAsked | RequestRefused:
    try:
        return decide(row)
    except RequestRefused as refusal:
        return refusal


def _after(row: Row, change: Change) -> Row:
    after = {**row, **change.values, "updated_at": row["now"]}
    return {
        **after,
        "is_due": after["state"] == PinState.SCHEDULED and after["run_at"] <= row["now"],
    }


def _verdict(decided: Change | AsAsked | RequestRefused, row: Row | None) -> Verdict:
    if isinstance(decided, RequestRefused):
        return decided
    if row is None:
        raise AssertionError("decided on a row that is not there")
    return Kept(row, decided.message) if isinstance(decided, AsAsked) else Changed(row)


async def _wait_in_outbox(connection: AsyncConnection, events: Sequence[OutboxEvent]) -> None:
    if events:
        await connection.execute(insert(outbox), [event._asdict() for event in events])


async def _announce(driver: DriverConnection, events: Sequence[OutboxEvent]) -> None:
    rows = [
        (one.event_type, one.event_id, one.key, one.payload.decode(), one.occurred_at)
        for one in events
    ]
    await driver.execute(_ANNOUNCE, columns(_OUTBOX, rows))


def _values_of(made: Sequence[Direct]) -> Iterator[tuple[Any, ...]]:
    """Each pin's values, in the order of COLUMNS; `created_at` is its place, counted to 0."""
    for place, pin in enumerate(made, -len(made)):
        terms = pin.content.related_terms
        about = {
            "pin_id": pin.pin_id,
            "workspace_id": pin.workspace_id,
            "fingerprint": pin.fingerprint,
            "run_at": None,
            "created_at": place,
            "related_terms": None if terms is None else orjson.dumps(terms).decode(),
        }
        values = {**asdict(pin.content), **about}
        yield tuple(values.get(name) for name, _ in COLUMNS)

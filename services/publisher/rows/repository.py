"""The keyed store of the pipeline: batches, schedules that are due, the outbox.

HTTP's SQL is in queries.py and commands.py.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import args_row
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from services.publisher.model import (
    PIN_COLUMNS,
    STORED_COLUMNS,
    Failure,
    Origin,
    PinState,
    StoredPin,
    group_by_change,
)
from services.publisher.pin_events import OutboxEvent, pin_failed, pin_published
from services.publisher.rows.outcomes import (
    Ask,
    Doomed,
    Failed,
    Found,
    History,
    Recorded,
    found_of,
    jobs_of,
    scheduled_for,
)
from services.publisher.tables import outbox, pins
from shared.contract.events import RowStatus
from shared.kafka.positions.advance import Advance
from shared.kafka.positions.store import PositionStore
from shared.kafka.producer import SEND_TIMEOUT_SECONDS
from shared.postgres.arrays import Column, columns, names, unnest
from shared.postgres.database import Database, DriverConnection
from shared.postgres.row import Row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

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
)
# The recorded outcomes of these jobs' rows, and of other rows to which these pins are promised
HISTORY = f"""
    select {names(OUTCOME_COLUMNS)}
    from publisher.row_outcomes where job_id = any(%b::uuid[]) or promised_pin_id = any(%b::uuid[])
"""

_VALUES = {
    "created_at": "timestamptz 'epoch' + r.created_at * interval '1 microsecond'",
    "related_terms": "r.related_terms::json",
}

# One publication for each key, for ever, is the primary key's doing: the id is computed from
# workspace and key. Of equal keys in one batch the first in order is inserted. Sorted by id, or two
# publishers with overlapping keys deadlock (measured).
INSERT = f"""
    with inserted as (
        insert into publisher.pins ({names(PIN_COLUMNS)}, state, published_at)
        select {", ".join(_VALUES.get(name, f"r.{name}") for name, _ in PIN_COLUMNS)},
            case when r.run_at is null then 'published' else 'scheduled' end, case when r.run_at is null then now() end
        from {unnest(PIN_COLUMNS)} with ordinality as r({names(PIN_COLUMNS)}, position)
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
        order by r.pin_id, r.position
        on conflict (pin_id) do nothing
        returning true
    )
    select count(*)::int4, set_config('pinflow.inserted', count(*)::text, true) from inserted
"""

# A statement of its own: in the same one, an id that another transaction has just committed comes
# back from neither (measured). What this transaction has inserted is left out: it is known. When
# that is every id that is asked for, nothing stood before, and nothing is looked for (14.3 → 12.2
# µs a row of Postgres in the whole pipeline, more the larger the table).
SELECT = f"""
    select {", ".join(STORED_COLUMNS)} from publisher.pins
    where pin_id = any(%b::uuid[]) and xmin <> (select pg_current_xact_id()::xid) and current_setting('pinflow.inserted')::int4 < %b::int4
"""

FAILURE_COLUMNS = (
    ("job_id", "uuid"),
    ("row_number", "int4"),
    ("error_code", "text"),
    ("error_message", "text"),
)
RECORD = f"""
    insert into publisher.row_outcomes (status, {names(FAILURE_COLUMNS)})
    select '{RowStatus.FAILED}', * from {unnest(FAILURE_COLUMNS)} order by 2, 3
    on conflict do nothing
"""

RECORD_OUTCOMES = f"""
    insert into publisher.row_outcomes ({names(OUTCOME_COLUMNS)})
    select * from {unnest(OUTCOME_COLUMNS)} order by 1, 2
    on conflict do nothing
"""

Judge = Callable[[Found], Sequence[Failed]]
"""Decides the batch from what was found; returns the failures to record in the same transaction."""


DueCheck = Callable[[Sequence[Row]], Awaitable[Mapping[UUID, Failure]]]
"""Why pins that are due can't be published, by pin id; the others can."""


class PinStore:
    """The keyed store.

    Raises DatabaseUnavailable when Postgres is away; any other database error is about what was
    stored.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.positions = PositionStore(database, "publisher")

    async def settle(
        self,
        asks: Sequence[Ask],
        passed: Sequence[Ask],
        doomed: Sequence[Doomed],
        advance: Advance,
        judge: Judge,
        *,
        moves: bool = False,
        publishes: bool = True,
    ) -> None:
        """Publishes a batch's rows and reads what stands under their keys, in one transaction.

        `passed` are the `asks` that passed their checks, in order. If all did, one round trip is
        enough. With `moves`, the transaction moves the advance's positions. Without `publishes`,
        it publishes nothing. Raises PositionBehind.
        """
        at_once = len(passed) == len(asks) and not doomed
        async with self._database.pipeline() as driver:
            jobs = jobs_of(ask.row for ask in asks) | jobs_of(doomed)
            ids = Column("uuid", [ask.pin_id for ask in asks])
            held = await self.positions.hold(driver, advance, moves=moves)
            job_ids = Column("uuid", list(jobs.values()))
            recorded = await driver.execute(HISTORY, (job_ids, ids), binary=True)
            publishable, history = passed, None
            if not at_once and publishes:
                history = _history_of(await recorded.fetchall())
                publishable = _publishable(asks, passed, history)
            inserted = await driver.execute(
                INSERT, columns(PIN_COLUMNS, _values_of(publishable)), binary=True
            )
            cursor = driver.cursor(binary=True, row_factory=args_row(StoredPin))
            stored = await cursor.execute(SELECT, (ids, len({ask.pin_id.int for ask in asks})))
            if at_once:
                await driver.commit()
            ((now,),) = await held.fetchall()
            if history is None:
                history = _history_of(await recorded.fetchall())
            standing = {pin.pin_id: pin for pin in await stored.fetchall()}
            found = found_of(publishable, history, standing, now)
            ((count, _),) = await inserted.fetchall()
            if count != found.inserted:
                raise AssertionError(f"{count} pins were inserted, {found.inserted} seem to be new")
            if new := judge(found):
                await _record(driver, new)
        if moves:
            self.positions.note_stored(advance)

    async def record_outcomes(self, rows: Sequence[tuple[Any, ...]], advance: Advance) -> None:
        """Records outcomes from Kafka and moves the advance's positions, in one transaction.

        Rows are in the order of OUTCOME_COLUMNS. Outcomes that exist stay. Raises PositionBehind.
        """
        async with self._database.pipeline() as driver:
            await self.positions.hold(driver, advance, moves=True)
            await driver.execute(RECORD_OUTCOMES, columns(OUTCOME_COLUMNS, rows))
        self.positions.note_stored(advance)

    async def analyze_outcomes(self) -> None:
        """Analyzes row_outcomes, so that the planner uses its indexes."""
        async with self._database.transaction() as connection:
            await connection.execute(text("analyze publisher.row_outcomes"))

    async def publish_due(self, limit: int, check: DueCheck) -> int:
        """Publish what is due by the database's clock, or fail it as `check` says; events go to the
        outbox. Returns how many.
        """
        due = (
            select(pins)
            .where(pins.c.state == PinState.SCHEDULED, pins.c.run_at <= func.now())
            .order_by(pins.c.run_at, pins.c.created_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._database.transaction() as connection:
            rows = [dict(row) for row in (await connection.execute(due)).mappings()]
            failures = await check(rows) if rows else {}
            now = (await connection.execute(select(func.now()))).scalar_one()
            changes = {
                row["pin_id"]: _change_when_due(failures.get(row["pin_id"]), now) for row in rows
            }
            for change, ids in group_by_change(changes):
                await connection.execute(
                    update(pins).where(pins.c.pin_id.in_(ids)).values(**change, updated_at=now)
                )
            if rows:
                events = [_event_when_due({**row, **changes[row["pin_id"]]}) for row in rows]
                await connection.execute(insert(outbox), [event._asdict() for event in events])
        return len(rows)

    async def take_events(
        self, limit: int, deliver: Callable[[Sequence[OutboxEvent]], Awaitable[None]]
    ) -> int:
        """Hand the oldest waiting events to `deliver`; they are gone once it returned, and stay
        when it raised. Returns how many.
        """
        async with self._database.transaction(patience_seconds=SEND_TIMEOUT_SECONDS) as connection:
            # Materialized: as a plain subquery the planner may run it again, and take other rows
            # than it locked
            taken = (
                select(outbox.c.id)
                .order_by(outbox.c.id)
                .limit(limit)
                .with_for_update(skip_locked=True)
                .cte()
                .prefix_with("MATERIALIZED")
            )
            statement = delete(outbox).where(outbox.c.id.in_(select(taken.c.id))).returning(outbox)
            rows = (await connection.execute(statement)).mappings().all()
            ordered = sorted(rows, key=lambda row: row["id"])
            if ordered:
                await deliver(
                    [OutboxEvent(*(row[name] for name in OutboxEvent._fields)) for row in ordered]
                )
        return len(ordered)


def _change_when_due(failure: Failure | None, now: datetime) -> dict[str, Any]:
    if failure is None:
        return {"state": PinState.PUBLISHED, "published_at": now}
    return {"state": PinState.FAILED, "failed_at": now, **failure._asdict()}


def _event_when_due(pin: Row) -> OutboxEvent:
    return pin_published(pin) if pin["state"] == PinState.PUBLISHED else pin_failed(pin)


def _values_of(asks: Iterable[Ask]) -> Iterator[tuple[Any, ...]]:
    """Each row's values, in the order of PIN_COLUMNS."""
    accepted: dict[datetime, int] = {}
    for ask in asks:
        row, pin = ask.row, ask.row.row
        if (start := accepted.get(row.accepted_at)) is None:
            start = accepted[row.accepted_at] = (row.accepted_at - EPOCH) // MICROSECOND
        yield (
            ask.pin_id,
            row.workspace_id,
            pin.account_id,
            pin.asset_id,
            pin.cover_image_asset_id,
            row.fingerprint,
            row.job_id,
            row.row_number,
            scheduled_for(row),
            # A microsecond a row gives each its place in lists without another column in their
            # index
            start + row.row_number,
            pin.idempotency_key,
            pin.board_id,
            pin.title,
            pin.description,
            pin.alt_text,
            pin.link_url,
            pin.image_url,
            pin.cover_image_url,
            pin.dominant_color,
            None if pin.related_terms is None else orjson.dumps(pin.related_terms).decode(),
        )


def _publishable(asks: Sequence[Ask], passed: Sequence[Ask], history: History) -> Sequence[Ask]:
    """Returns the rows that passed, and those recorded as created: no later check refuses them."""
    if not history.recorded:
        return passed
    passed_ids = {id(ask) for ask in passed}
    return [ask for ask in asks if id(ask) in passed_ids or history.is_created(ask.row)]


def _history_of(rows: Iterable[tuple[Any, ...]]) -> History:
    recorded: dict[Origin, Recorded] = {}
    promised: dict[UUID, tuple[Origin, Recorded]] = {}
    for job_id, row_number, status, *ids_and_match, code, message, promised_id in rows:
        pin_id, schedule_id, matches = ids_and_match
        origin = Origin(job_id, row_number)
        failure = Failure(code, message) if status == RowStatus.FAILED else None
        recorded[origin] = Recorded(RowStatus(status), pin_id, schedule_id, matches, failure)
        if promised_id is not None:
            promised[promised_id] = (origin, recorded[origin])
    return History(recorded, promised)


async def _record(driver: DriverConnection, failures: Sequence[Failed]) -> None:
    rows = [
        (one.job_id, one.row_number, one.failure.error_code, one.failure.error_message)
        for one in failures
    ]
    await driver.execute(RECORD, columns(FAILURE_COLUMNS, rows))

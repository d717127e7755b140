"""Settles an import in one transaction. Does no I/O: it yields statements and receives their rows.

So both peers share it, FastAPI with an asynchronous connection, Celery with a synchronous one.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from psycopg import AsyncConnection, Connection

from shared.access.model import BoardCheck, Destination
from shared.contract.events import RowResult
from shared.contract.wire import encode
from shared.postgres.arrays import Column, to_columns
from shared.runtime.ttl_set import TTLSet
from tests.tools.bench.peers.equal_work import tables
from tests.tools.bench.peers.equal_work.events import build_events, count_statuses, pack
from tests.tools.bench.peers.equal_work.outcomes import (
    Import,
    Stored,
    decide,
    drop_past_times,
    find_destination,
    read_held,
    refuse_all,
)
from tests.tools.bench.peers.rows import build_values
from tests.tools.bench.peers.store import COLUMNS


class Statement(NamedTuple):
    sql: str
    parameters: Sequence[Any]
    returns_rows: bool = False


Rows: TypeAlias = list[tuple[Any, ...]]
Settling: TypeAlias = Generator[list[Statement], list[Rows], None]
"""Yields statements to send together. Receives the rows of each that returns some."""
KnownDestinations: TypeAlias = TTLSet[Destination]
"""Cache of existing accounts and boards for 30 s, as long as Pinflow's."""
SaveResults: TypeAlias = Callable[[UUID, Sequence[RowResult]], Statement]


class ImportKey(NamedTuple):
    """An Idempotency-Key and the digest of its request."""

    key: str
    digest: bytes


class KeyTaken(Exception):
    """Another request has claimed the Idempotency-Key. Nothing was written."""


def save_result_rows(job_id: UUID, results: Sequence[RowResult]) -> Statement:
    """Stores each result as a row of its own."""
    columns = to_columns(
        tables.RESULT_COLUMNS,
        (
            (
                result.row_number,
                result.status.value,
                result.pin_id,
                result.schedule_id,
                result.idempotency_key,
                # Only existing rows that differ, and failed ones, have more to say
                encode(result).decode() if result.errors or result.existing_state else None,
            )
            for result in results
        ),
    )
    return Statement(tables.INSERT_RESULT_ROWS, (job_id, *columns))


def save_result_text(job_id: UUID, results: Sequence[RowResult]) -> Statement:
    """Stores an import's results as one text, from which Postgres reads each of them."""
    return Statement(tables.INSERT_RESULT_TEXT, (job_id, encode(results).decode()))


def claim(import_: Import, key: ImportKey) -> Statement:
    """Claims an Idempotency-Key for an import. Returns no row if it is taken."""
    parameters = (import_.workspace_id, key.key, key.digest, import_.job_id)
    return Statement(tables.CLAIM_KEY, parameters, returns_rows=True)


def open_job(import_: Import) -> Statement:
    """Creates an unsettled job, unless it exists."""
    return Statement(
        tables.OPEN_JOB,
        (
            import_.job_id,
            import_.workspace_id,
            import_.total,
            len(import_.failures),
            import_.accepted_at,
        ),
    )


def settle_queued(
    import_: Import, known: KnownDestinations, save_results: SaveResults, *, refusal: str = ""
) -> Settling:
    """Settles an import from a queue. Does nothing if an earlier delivery has settled it.

    With `refusal`, Postgres has refused a value: then all rows fail, and the message says why.
    """
    _, ((settled_at,),) = yield [
        open_job(import_),
        Statement(tables.LOCK_JOB, (import_.job_id,), returns_rows=True),
    ]
    if settled_at is not None:
        return
    if refusal:
        yield [
            *_close(import_, refuse_all(import_, refusal), {}, import_.accepted_at, save_results)
        ]
    else:
        yield from settle(import_, known, save_results)


def settle(
    import_: Import,
    known: KnownDestinations,
    save_results: SaveResults,
    key: ImportKey | None = None,
) -> Settling:
    """Settles an import: pins, results, counters and events. Raises KeyTaken.

    `key` is claimed first. Two round trips are enough if all destinations are known and all rows
    are new.
    """
    if key is not None:
        (claimed,) = yield [claim(import_, key)]
        if not claimed:
            raise KeyTaken
    import_ = import_._replace(rows=drop_past_times(import_.rows, import_.accepted_at))
    destinations = {find_destination(import_.workspace_id, row): None for row in import_.rows}
    failing: dict[Destination, BoardCheck] = {}
    if unknown := [item for item in destinations if item not in known]:
        (checks,) = yield [_check(unknown)]
        failing = _read_checks(unknown, checks, known)
    values = build_values(import_.workspace_id, import_.job_id, import_.accepted_at, import_.rows)
    pin_ids = {row[0]: value[0] for row, value in zip(import_.rows, values, strict=True)}
    if failing:
        values = [
            value
            for row, value in zip(import_.rows, values, strict=True)
            if find_destination(import_.workspace_id, row) not in failing
        ]
    (((settled_at, created),),) = yield [
        Statement(tables.INSERT_PINS, to_columns(COLUMNS, values), returns_rows=True)
    ]
    held = {}
    if len(created) < len(import_.rows):
        others = [pin_ids[number] for number in pin_ids.keys() - set(created)]
        (existing,) = yield [
            Statement(tables.SELECT_EXISTING, [Column("uuid", others)], returns_rows=True)
        ]
        held = read_held(existing)
    results = decide(import_, pin_ids, Stored(settled_at, created, held, failing))
    yield _close(import_, results, pin_ids, settled_at, save_results)


def _close(
    import_: Import,
    results: list[RowResult],
    pin_ids: dict[int, UUID],
    settled_at: Any,
    save_results: SaveResults,
) -> list[Statement]:
    """Stores the results, the counters that follow from them, and the events."""
    events = pack(build_events(import_, results, pin_ids, settled_at))
    job_id, workspace_id = import_.job_id, import_.workspace_id
    counters = count_statuses(results)
    job = (job_id, workspace_id, import_.total, *counters, import_.accepted_at, settled_at)
    return [
        save_results(job_id, results),
        Statement(tables.CLOSE_JOB, job),
        Statement(tables.INSERT_OUTBOX, (workspace_id, import_.total, events)),
    ]


def _check(destinations: Sequence[Destination]) -> Statement:
    columns = [
        Column("uuid", [item.workspace_id for item in destinations]),
        Column("uuid", [item.account_id for item in destinations]),
        Column("text", [item.board_id for item in destinations]),
    ]
    return Statement(tables.CHECK_DESTINATIONS, columns, returns_rows=True)


def _read_checks(
    destinations: Sequence[Destination], checks: Rows, known: KnownDestinations
) -> dict[Destination, BoardCheck]:
    """Returns the destinations that fail, and why. Adds the others to `known`."""
    failing = {}
    for destination, (has_account, has_board) in zip(destinations, checks, strict=True):
        if has_board:
            known.add(destination)
        else:
            failing[destination] = BoardCheck.NO_BOARD if has_account else BoardCheck.NO_ACCOUNT
    return failing


async def run(driver: AsyncConnection[Any], settling: Settling) -> None:
    """Executes the statements on a connection in pipeline mode. The caller commits."""
    rows: list[Rows] = []
    statements = next(settling, None)
    while statements is not None:
        cursors = [
            await driver.execute(statement.sql.encode(), statement.parameters, binary=True)
            for statement in statements
        ]
        rows = [
            await cursor.fetchall() if statement.returns_rows else []
            for statement, cursor in zip(statements, cursors, strict=True)
        ]
        statements = _advance(settling, rows)


def run_synchronously(connection: Connection[Any], settling: Settling) -> None:
    """Does the same as `run` on a synchronous connection."""
    statements = next(settling, None)
    while statements is not None:
        cursors = [
            connection.execute(statement.sql.encode(), statement.parameters, binary=True)
            for statement in statements
        ]
        rows = [
            cursor.fetchall() if statement.returns_rows else []
            for statement, cursor in zip(statements, cursors, strict=True)
        ]
        statements = _advance(settling, rows)


def _advance(settling: Settling, rows: list[Rows]) -> list[Statement] | None:
    try:
        return settling.send(rows)
    except StopIteration:
        return None

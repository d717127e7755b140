"""Decides the outcomes of an import's rows and builds their results. Does no I/O.

The rules are Pinflow's own, from the same functions.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from services.publisher.existing_pins import (
    CONTENT_COLUMNS,
    find_differences,
    find_existing_state,
)
from shared.access.errors import describe_board_failure
from shared.access.model import BoardCheck, Destination
from shared.contract.events import Fault, PinContent, RowResult, RowStatus
from shared.contract.pins import make_printable
from shared.contract.schedule_ids import derive_schedule_id
from tests.tools.bench.peers.rows import CONTENT, QueuedRow

ACCOUNT, BOARD, KEY, RUN_AT = (
    1 + CONTENT.index(name) for name in ("account_id", "board_id", "idempotency_key", "run_at")
)
"""Positions in a QueuedRow, whose first value is the row's number."""


class Import(NamedTuple):
    """An accepted import. Ids and times of its rows are parsed."""

    job_id: UUID
    workspace_id: UUID
    accepted_at: datetime
    rows: list[QueuedRow]
    failures: list[RowResult]
    """Results of the rows that failed validation."""

    @property
    def total(self) -> int:
        return len(self.rows) + len(self.failures)


class HeldKey(NamedTuple):
    """The pin that has a row's key, and the row that created it."""

    origin: tuple[UUID, int]
    state: str
    content: PinContent


class Stored(NamedTuple):
    """Holds the store's content that concerns an import's rows."""

    settled_at: datetime
    created: Collection[int]
    """Numbers of the rows whose pins were inserted."""
    held: Mapping[UUID, HeldKey]
    """The pins that have the keys of the other rows, by pin id."""
    failing: Mapping[Destination, BoardCheck]
    """Destinations of the import that failed their check."""


def read_held(rows: Collection[tuple[Any, ...]]) -> dict[UUID, HeldKey]:
    """Reads the result of SELECT_EXISTING."""
    return {
        pin_id: HeldKey(
            (job_id, number), state, PinContent(**dict(zip(CONTENT_COLUMNS, content, strict=True)))
        )
        for pin_id, job_id, number, state, *content in rows
    }


def drop_past_times(rows: list[QueuedRow], accepted_at: datetime) -> list[QueuedRow]:
    """Removes times in the past: such rows are published at once."""
    return [
        (*row[:RUN_AT], None, *row[RUN_AT + 1 :])
        if row[RUN_AT] is not None and row[RUN_AT] <= accepted_at
        else row
        for row in rows
    ]


def find_destination(workspace_id: UUID, row: QueuedRow) -> Destination:
    return Destination(workspace_id, row[ACCOUNT], row[BOARD])


def decide(import_: Import, pin_ids: Mapping[int, UUID], stored: Stored) -> list[RowResult]:
    """Builds the results of all rows, in their order. `pin_ids` are by row number."""
    created = frozenset(stored.created)
    results = [
        _build_created(row, pin_ids[row[0]])
        if row[0] in created
        else _decide_other(import_, row, pin_ids[row[0]], stored)
        for row in import_.rows
    ]
    if import_.failures:
        results = sorted([*results, *import_.failures], key=lambda result: result.row_number)
    return results


def refuse_all(import_: Import, message: str) -> list[RowResult]:
    """Builds the results of an import of which Postgres refuses a value."""
    refused = [_build_failed(row, "record_refused", None, message) for row in import_.rows]
    return sorted([*refused, *import_.failures], key=lambda result: result.row_number)


def _build_created(row: QueuedRow, pin_id: UUID) -> RowResult:
    is_published = row[RUN_AT] is None
    return RowResult(
        row_number=row[0],
        status=RowStatus.CREATED,
        pin_id=pin_id if is_published else None,
        schedule_id=None if is_published else derive_schedule_id(pin_id),
        idempotency_key=row[KEY],
    )


def _decide_other(import_: Import, row: QueuedRow, pin_id: UUID, stored: Stored) -> RowResult:
    """Decides a row that created nothing. A pin that stood before it goes before a failed check."""
    held = stored.held.get(pin_id)
    if held is not None and _stood_before(held, import_, row):
        return _build_existing(row, pin_id, held, stored.settled_at)
    destination = find_destination(import_.workspace_id, row)
    code, message = describe_board_failure(stored.failing[destination], destination)
    field = message.partition(":")[0]
    return _build_failed(row, code, field, message)


def _stood_before(held: HeldKey, import_: Import, row: QueuedRow) -> bool:
    job_id, number = held.origin
    return job_id != import_.job_id or number < row[0]


def _build_existing(row: QueuedRow, pin_id: UUID, held: HeldKey, now: datetime) -> RowResult:
    sent = PinContent(**dict(zip(CONTENT, row[1:], strict=True)))
    # The pin id stands for a fingerprint that no content has: peers have no edits
    differences = find_differences(held.content, pin_id, sent)
    run_at = held.content.run_at
    return RowResult(
        row_number=row[0],
        status=RowStatus.EXISTING,
        pin_id=pin_id if run_at is None else None,
        schedule_id=None if run_at is None else derive_schedule_id(pin_id),
        idempotency_key=row[KEY],
        payload_matches=not differences,
        existing_state=find_existing_state(
            held.state, is_deleted=False, is_due=run_at is not None and run_at <= now
        ),
        differing_fields=differences or None,
    )


def _build_failed(row: QueuedRow, code: str, field: str | None, message: str) -> RowResult:
    value = {"account_id": row[ACCOUNT], "board_id": row[BOARD]}.get(field or "")
    fault = Fault(
        code=code,
        field=field,
        message=message.removeprefix(f"{field}: "),
        value=None if value is None else make_printable(str(value)),
    )
    return RowResult(
        row_number=row[0],
        status=RowStatus.FAILED,
        idempotency_key=row[KEY],
        error_code=code,
        error_message=message,
        errors=[fault],
    )

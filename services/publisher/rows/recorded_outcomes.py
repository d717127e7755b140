"""The SQL of recorded outcomes: the table publisher.row_outcomes."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncCursor

from services.publisher.model import Failure, Origin
from services.publisher.rows.outcomes import ExistingRow, FailedRow, find_result_ids
from services.publisher.rows.snapshot import RecordedOutcomes, StoredOutcome
from shared.contract.events import ExistingState, FieldDifference, RowAccepted, RowStatus
from shared.contract.row_identity import UnreadableRow
from shared.contract.wire import encode
from shared.postgres.arrays import Column, column_names, to_columns, unnest
from shared.postgres.database import DriverConnection
from shared.postgres.row import Row

OUTCOME_COLUMNS = (
    ("job_id", "uuid"),
    ("row_number", "int4"),
    ("status", "text"),
    ("pin_id", "uuid"),
    ("schedule_id", "uuid"),
    ("payload_matches", "bool"),
    ("error_code", "text"),
    ("error_message", "text"),
    # promised_*: the key is reserved for this row (glossary: reserved key)
    ("promised_pin_id", "uuid"),
    ("existing_state", "text"),
    ("differing_fields", "text"),
    ("updated", "bool"),
    ("promised_generation", "int4"),
)
# Selects the recorded outcomes of these jobs' rows, and of the rows that reserve these pin ids
SELECT_RECORDED = f"""
    select {column_names(OUTCOME_COLUMNS)}
    from publisher.row_outcomes where job_id = any(%b::uuid[]) or promised_pin_id = any(%b::uuid[])
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

_decode_differences = msgspec.json.Decoder(list[FieldDifference]).decode


async def select_recorded(
    driver: DriverConnection, jobs: Column, pin_ids: Column
) -> AsyncCursor[Any]:
    """Sends the select of the outcomes that are recorded for these jobs and pins."""
    return await driver.execute(SELECT_RECORDED, (jobs, pin_ids), binary=True)


async def record_failures(driver: DriverConnection, failures: Sequence[FailedRow]) -> None:
    """Records failures, so that a redelivery reads them back."""
    if failures:
        rows = [(failed.job_id, failed.row_number, *failed.failure) for failed in failures]
        await driver.execute(INSERT_FAILURES, to_columns(FAILURE_COLUMNS, rows))


async def record_existing(driver: DriverConnection, existing: Sequence[ExistingRow]) -> None:
    """Records existing rows, so that a redelivery reads them back."""
    if existing:
        columns = to_columns(OUTCOME_COLUMNS, map(_build_existing_values, existing))
        await driver.execute(INSERT_OUTCOMES, columns)


def collect_job_ids(rows: Iterable[RowAccepted | UnreadableRow]) -> Column:
    """Collects the distinct job ids. Compares numbers: Python hashes and compares UUIDs slowly."""
    return Column("uuid", list({row.job_id.int: row.job_id for row in rows}.values()))


def parse_recorded(rows: Iterable[tuple[Any, ...]]) -> RecordedOutcomes:
    """Parses rows of SELECT_RECORDED."""
    recorded: dict[Origin, StoredOutcome] = {}
    reserved: dict[UUID, tuple[Origin, StoredOutcome]] = {}
    names = [name for name, _ in OUTCOME_COLUMNS]
    for values in rows:
        row = dict(zip(names, values, strict=True))
        origin = Origin(row["job_id"], row["row_number"])
        outcome = recorded[origin] = _parse_outcome(row)
        if (pin_id := row["promised_pin_id"]) is not None:
            # The key is reserved for the row that created its last pin
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

"""The records that the publisher sends: pin events and outcomes.

A record that is too large for its topic would block its partition forever.
"""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import orjson
import pytest
from msgspec.structs import replace

from services.publisher.ids import compute_pin_id
from services.publisher.model import Failure, build_failure
from services.publisher.rows.outcomes import (
    NOTHING_RECORDED,
    FailedRow,
    build_snapshot,
    decide_all,
    key_and_sort_rows,
)
from services.publisher.rows.records import build_outcome_records, build_pin_event_records
from shared.access.model import BoardCheck
from shared.contract.errors import ErrorCode
from shared.contract.events import MAX_KEY_LENGTH, MAX_ROWS, PinPublished, PinScheduled
from shared.contract.import_limits import MEBIBYTE
from shared.contract.row_identity import UnreadableRow
from shared.kafka.records import Record
from tests.support.events import parse_event
from tests.support.factories import row_accepted

JOB, WORKSPACE = uuid4(), uuid4()
MAX_RECORD_OVERHEAD_BYTES = 1024
"""More bytes than Kafka adds to one record: its batch's header, the key, lengths."""


def build_longest_failure(row_number: int, longest: str) -> FailedRow:
    """Builds the longest outcome of a row: it contains the board three times and the key once."""
    key = f"{row_number:03}{longest[3:]}"
    row = row_accepted(job_id=JOB, workspace_id=WORKSPACE, row_number=row_number)
    # Ingest would reject \x01, but other producers to `imports` may send it. JSON writes it in six
    # bytes
    content = replace(row.row, board_id=longest, idempotency_key=key)
    row = replace(row, row=content)
    (keyed,) = key_and_sort_rows([row])
    failure = build_failure(BoardCheck.NO_BOARD, keyed.destination)
    return FailedRow(JOB, WORKSPACE, row_number, failure, row)


def row_numbers(records: list[Record]) -> list[int]:
    documents = [orjson.loads(record.value) for record in records]
    assert {
        (UUID(document["job_id"]), UUID(document["workspace_id"])) for document in documents
    } == {(JOB, WORKSPACE)}
    return [result["row_number"] for document in documents for result in document["results"]]


@pytest.mark.parametrize("character", ["b", "é", "\U0001f4cc", '"', "\x01"])
def test_invariant_8_the_longest_outcomes_of_a_whole_import_fit_into_their_topic(
    character: str,
) -> None:
    numbers = list(range(1, MAX_ROWS + 1))
    records = build_outcome_records(
        build_longest_failure(number, character * MAX_KEY_LENGTH) for number in reversed(numbers)
    )
    assert max(len(record.value) for record in records) < MEBIBYTE - MAX_RECORD_OVERHEAD_BYTES
    assert row_numbers(records) == numbers


def test_usual_outcomes_of_a_job_are_one_record() -> None:
    """Each additional record costs the status service a message."""
    assert (
        len(
            build_outcome_records(
                build_longest_failure(number, "board") for number in range(1, 201)
            )
        )
        == 1
    )


def test_invariant_8_an_overlong_recorded_failure_is_shortened() -> None:
    """Earlier versions recorded messages of any length, and a redelivery reports them again.

    Without the limit, such a message would block its partition.
    """
    recorded = Failure(
        ErrorCode.BOARD_NOT_FOUND, f"board_id: no board {'b' * 600_000} on this account"
    )
    records = build_outcome_records([FailedRow(*UnreadableRow(JOB, WORKSPACE, 1), recorded)])
    (record,) = records
    assert len(record.value) < 10_000
    (result,) = orjson.loads(record.value)["results"]
    assert result["error_message"].startswith("board_id: no board bbb")


@pytest.mark.parametrize(
    ("run_at", "model", "suffix"),
    [(None, PinPublished, "published"), ("2031-01-01T00:00:00+00:00", PinScheduled, "scheduled")],
)
def test_a_pin_event_has_its_id_type_and_key(
    run_at: str | None, model: type[PinPublished | PinScheduled], suffix: str
) -> None:
    row = row_accepted(run_at=run_at)
    rows = key_and_sort_rows([row])
    snapshot = build_snapshot(rows, NOTHING_RECORDED, {}, datetime.now(UTC))
    (record,) = build_pin_event_records(decide_all(rows, {}, snapshot))
    event = parse_event(model, record.value)
    assert event.pin_id == compute_pin_id(row.workspace_id, row.row.idempotency_key)
    assert (event.workspace_id, event.account_id, event.job_id) == (
        row.workspace_id,
        row.row.account_id,
        row.job_id,
    )
    assert record.key == str(row.workspace_id).encode()
    assert dict(record.headers)["ce_id"] == f"{event.pin_id}:{suffix}".encode()
    assert dict(record.headers)["ce_type"] == f"pinflow.pin.{suffix}.v1".encode()

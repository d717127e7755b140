"""The records that the publisher sends: pin events and outcomes.

A record that is too large for its topic would block its partition forever.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import orjson
import pytest
from msgspec.structs import replace

from services.publisher.existing_pins import COMPARED_FIELDS
from services.publisher.ids import compute_pin_id
from services.publisher.model import Failure, Origin, build_failure
from services.publisher.rows.outcomes import (
    ExistingRow,
    FailedRow,
    Outcome,
    add_differences,
    decide_all,
)
from services.publisher.rows.records import build_outcome_records, build_pin_event_records
from services.publisher.rows.snapshot import (
    RecordedOutcomes,
    StoredOutcome,
    build_snapshot,
    key_and_sort_rows,
)
from shared.access.model import BoardCheck
from shared.contract.errors import ErrorCode
from shared.contract.events import MAX_KEY_LENGTH, MAX_ROWS, RowsSettled, RowStatus
from shared.contract.import_limits import MEBIBYTE
from shared.contract.pin_events import PinPublished, PinScheduled
from shared.contract.pins import TEXTS
from shared.contract.row_identity import UnreadableRow
from shared.kafka.records import Record
from tests.support.events import parse_event
from tests.support.factories import NOON, NOTHING_RECORDED, row_accepted

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


def build_longest_existing(row_number: int, longest: str) -> ExistingRow:
    """Builds the longest outcome of an existing row: every field differs in long values."""
    key = f"{row_number:03}{longest[3:]}"
    row = row_accepted(job_id=JOB, workspace_id=WORKSPACE, row_number=row_number)
    texts = dict.fromkeys((*TEXTS, "dominant_color"), longest)
    ids = {"account_id": uuid4(), "asset_id": uuid4(), "cover_image_asset_id": uuid4()}
    run_at = datetime(2031, 5, 1, tzinfo=UTC)
    content = replace(row.row, **texts, **ids, related_terms=[longest] * 50, run_at=run_at)
    sent = replace(row, row=replace(content, idempotency_key=key), line=10**9)
    (keyed,) = key_and_sort_rows([sent])
    other = longest[0] * 99 + "x" + longest
    stored = replace(
        content,
        **dict.fromkeys((*TEXTS, "dominant_color"), other),
        **{name: uuid4() for name in ids},
        related_terms=[other],
        run_at=run_at.replace(year=2032),
    )
    snapshot = build_snapshot([keyed], NOTHING_RECORDED, {}, run_at)
    pin = replace(snapshot.stored[keyed.pin_id], fingerprint=uuid4(), origin_job_id=uuid4())
    snapshot = build_snapshot([], NOTHING_RECORDED, {keyed.pin_id: pin}, run_at)
    (outcome,) = add_differences(decide_all([keyed], {}, snapshot), {keyed.pin_id: stored})
    assert isinstance(outcome, ExistingRow)
    assert [item.field for item in outcome.differing_fields or ()] == list(COMPARED_FIELDS)
    return outcome


def row_numbers(records: list[Record]) -> list[int]:
    documents = [orjson.loads(record.value) for record in records]
    assert {
        (UUID(document["job_id"]), UUID(document["workspace_id"])) for document in documents
    } == {(JOB, WORKSPACE)}
    return [result["row_number"] for document in documents for result in document["results"]]


@pytest.mark.parametrize("build", [build_longest_failure, build_longest_existing])
@pytest.mark.parametrize("character", ["b", "é", "\U0001f4cc", '"', "\x01"])
def test_invariant_8_the_longest_outcomes_of_a_whole_import_fit_into_their_topic(
    character: str, build: Callable[[int, str], Outcome]
) -> None:
    numbers = list(range(1, MAX_ROWS + 1))
    longest = character * MAX_KEY_LENGTH
    records = build_outcome_records(build(number, longest) for number in reversed(numbers))
    assert max(len(record.value) for record in records) < MEBIBYTE - MAX_RECORD_OVERHEAD_BYTES
    assert row_numbers(records) == numbers


@pytest.mark.parametrize("build", [build_longest_failure, build_longest_existing])
def test_one_result_has_at_most_20_kb(build: Callable[[int, str], Outcome]) -> None:
    (record,) = build_outcome_records([build(1, "\x01" * MAX_KEY_LENGTH)])
    assert 5_000 < len(record.value) < 20_000


def test_a_result_repeats_the_line_of_its_row() -> None:
    row = replace(row_accepted(job_id=JOB, workspace_id=WORKSPACE), line=7)
    rows = key_and_sort_rows([row])
    created = build_snapshot(rows, NOTHING_RECORDED, {}, NOON)
    other = replace(created.stored[rows[0].pin_id], origin_job_id=uuid4())
    existing = build_snapshot(rows, NOTHING_RECORDED, {other.pin_id: other}, NOON)
    origin = Origin(row.job_id, row.row_number)
    known = RecordedOutcomes({origin: StoredOutcome(RowStatus.EXISTING, other.pin_id)}, {})
    recorded = build_snapshot(rows, known, {}, NOON)
    failed = FailedRow(JOB, WORKSPACE, 1, Failure(ErrorCode.INTERNAL_ERROR, "m"), row)
    outcomes = [
        *decide_all(rows, {}, created),
        *decide_all(rows, {}, existing),
        *decide_all(rows, {}, recorded),
        failed,
        FailedRow(*UnreadableRow(JOB, WORKSPACE, 2), failed.failure),
    ]
    (record,) = build_outcome_records(outcomes)
    results = parse_event(RowsSettled, record.value).results
    assert [(result.status, result.line) for result in results] == [
        ("created", 7),
        ("existing", 7),
        ("existing", 7),
        ("failed", 7),
        ("failed", None),
    ]


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

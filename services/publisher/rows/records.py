"""Builds the records of a batch of rows: pin events, and outcomes for the status service."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from operator import attrgetter
from typing import TypeAlias, assert_never
from uuid import UUID

from services.publisher.outbox_events import SOURCE
from services.publisher.rows.outcomes import (
    CreatedRow,
    ExistingRow,
    FailedRow,
    Outcome,
    RecordedRow,
    find_result_ids,
)
from services.publisher.rows.positions_header import POSITIONS_HEADER, EndOffsets, encode_positions
from shared.contract.cloudevents import EventType, build_common_headers
from shared.contract.errors import ErrorCode
from shared.contract.events import MAX_KEY_LENGTH, Fault, RowResult, RowStatus
from shared.contract.pin_events import PinQueued, PinScheduled, UndeliveredPinPublished
from shared.contract.pins import make_printable
from shared.contract.schedule_ids import derive_schedule_id
from shared.contract.wire import encode
from shared.kafka.records import Record
from shared.kafka.settled_records import split_into_records

FIELDS_BY_ERROR_CODE: dict[str, str] = {
    ErrorCode.ACCOUNT_NOT_FOUND: "account_id",
    ErrorCode.BOARD_NOT_FOUND: "board_id",
}
"""The field of the row that caused a failure, by error code."""
MAX_RESULTS_PER_RECORD = 200
"""Maximum results per record of `outcomes`: usually 25 KB. The longest results are split into
several records: with every character escaped to six bytes, they would be 2.7 MB.
"""
MAX_MESSAGE_CHARACTERS = 1000
"""Maximum characters of a failure's message in an outcome.

Only earlier versions recorded longer messages.
"""
Headers: TypeAlias = "list[tuple[str, bytes]]"
_CREATED = RowStatus.CREATED
"""Read once: each reading of an enum's member takes 0.2 µs."""

_UUID_CHARACTERS = 36
_PIN_ID_START = len('{"version":1,"pin_id":"')
_WORKSPACE_ID_START = _PIN_ID_START + _UUID_CHARACTERS + len('","workspace_id":"')
_PIN_ID, _WORKSPACE_ID = (
    slice(_PIN_ID_START, _PIN_ID_START + _UUID_CHARACTERS),
    slice(_WORKSPACE_ID_START, _WORKSPACE_ID_START + _UUID_CHARACTERS),
)
"""The slices of an encoded event that contain its ids. To format an id again would cost a tenth of
the encoding.
"""


def build_pin_event_records(outcomes: Iterable[Outcome]) -> list[Record]:
    """Builds PinPublished, PinScheduled or PinQueued for every created row, in the rows' order.

    A redelivered row produces the same event again, with the same event id. A row of a connected
    account never announces that its pin is published: the delivery process does that.
    """
    time = datetime.now(UTC)
    published = build_common_headers(EventType.PIN_PUBLISHED, source=SOURCE, time=time)
    scheduled = build_common_headers(EventType.PIN_SCHEDULED, source=SOURCE, time=time)
    queued = build_common_headers(EventType.PIN_QUEUED, source=SOURCE, time=time)
    records = []
    for outcome in outcomes:
        if isinstance(outcome, CreatedRow):
            event = _build_pin_event(outcome)
            value = encode(event)
            pin_id = value[_PIN_ID]
            if isinstance(event, UndeliveredPinPublished):
                headers = [("ce_id", pin_id + b":published"), *published]
            elif isinstance(event, PinQueued):
                headers = [("ce_id", pin_id + b":queued"), *queued]
            else:
                headers = [("ce_id", pin_id + b":scheduled"), *scheduled]
            records.append(Record(value[_WORKSPACE_ID], value, headers))
    return records


def _build_pin_event(
    outcome: CreatedRow,
) -> UndeliveredPinPublished | PinScheduled | PinQueued:
    row, stored = outcome.keyed.row, outcome.stored
    pin = row.row
    if stored.delivery is not None and outcome.keyed.scheduled_for is None:
        return PinQueued(
            pin_id=stored.pin_id,
            workspace_id=row.workspace_id,
            account_id=pin.account_id,
            board_id=pin.board_id,
            idempotency_key=pin.idempotency_key,
            job_id=row.job_id,
            row_number=row.row_number,
            queued_at=row.accepted_at,  # a redelivery knows no later time
        )
    if stored.run_at is None:
        return UndeliveredPinPublished(
            pin_id=stored.pin_id,
            workspace_id=row.workspace_id,
            account_id=pin.account_id,
            board_id=pin.board_id,
            idempotency_key=pin.idempotency_key,
            job_id=row.job_id,
            row_number=row.row_number,
            published_at=stored.published_at,  # type: ignore[arg-type] # never None without run_at
        )
    return PinScheduled(
        pin_id=stored.pin_id,
        workspace_id=row.workspace_id,
        account_id=pin.account_id,
        board_id=pin.board_id,
        idempotency_key=pin.idempotency_key,
        job_id=row.job_id,
        row_number=row.row_number,
        schedule_id=derive_schedule_id(stored.pin_id),
        run_at=stored.run_at,
    )


def build_outcome_records(
    outcomes: Iterable[Outcome], end_offsets: EndOffsets | None = None
) -> list[Record]:
    """Builds RowsSettled: usually one record per job, with its results in the order of its rows.

    `end_offsets` are the batch's end offsets in `imports`. After a restore of Postgres, the
    publisher records the outcomes of batches that end after its positions (outcome_history.py).
    """
    extra_headers = [(POSITIONS_HEADER, encode_positions(end_offsets))] if end_offsets else []
    # Keys are numbers: Python hashes and compares UUIDs slowly
    by_job: dict[tuple[int, int], list[RowResult]] = defaultdict(list)
    for outcome in outcomes:
        match outcome:  # like build_result, whose call would cost a created row 5 % more (measured)
            case CreatedRow():
                row = outcome.keyed.row
                by_job[row.job_id.int, row.workspace_id.int].append(_build_created_result(outcome))
            case ExistingRow():
                row = outcome.keyed.row
                by_job[row.job_id.int, row.workspace_id.int].append(_build_existing_result(outcome))
            case FailedRow():
                by_job[outcome.job_id.int, outcome.workspace_id.int].append(
                    _build_failed_result(outcome)
                )
            case RecordedRow():
                by_job[outcome.job_id.int, outcome.workspace_id.int].append(
                    _build_recorded_result(outcome)
                )
            case _:
                assert_never(outcome)
    return [
        record
        for (job, workspace), results in by_job.items()
        for record in _build_job_records(UUID(int=job), UUID(int=workspace), results, extra_headers)
    ]


def _build_job_records(
    job_id: UUID, workspace_id: UUID, results: list[RowResult], extra_headers: Headers
) -> Iterator[Record]:
    results.sort(key=attrgetter("row_number"))
    for start in range(0, len(results), MAX_RESULTS_PER_RECORD):
        yield from split_into_records(
            job_id, workspace_id, results[start : start + MAX_RESULTS_PER_RECORD], extra_headers
        )


def build_result(outcome: Outcome) -> RowResult:
    """Builds the result that a row's job shows."""
    match outcome:
        case CreatedRow():
            return _build_created_result(outcome)
        case ExistingRow():
            return _build_existing_result(outcome)
        case FailedRow():
            return _build_failed_result(outcome)
        case RecordedRow():
            return _build_recorded_result(outcome)
        case _:
            assert_never(outcome)


def _build_created_result(outcome: CreatedRow) -> RowResult:
    row, (pin_id, schedule_id) = outcome.keyed.row, find_result_ids(outcome)
    return RowResult(
        row_number=row.row_number,
        status=_CREATED,
        pin_id=pin_id,
        schedule_id=schedule_id,
        idempotency_key=row.row.idempotency_key,
        line=row.line,
    )


def _build_existing_result(outcome: ExistingRow) -> RowResult:
    row, (pin_id, schedule_id) = outcome.keyed.row, find_result_ids(outcome)
    return RowResult(
        row_number=row.row_number,
        status=RowStatus.EXISTING,
        pin_id=pin_id,
        schedule_id=schedule_id,
        idempotency_key=row.row.idempotency_key,
        payload_matches=outcome.payload_matches,
        line=row.line,
        existing_state=outcome.state,
        differing_fields=outcome.differing_fields,
        updated=outcome.updated or None,
    )


def _build_failed_result(outcome: FailedRow) -> RowResult:
    code, message = (
        outcome.failure.error_code,
        outcome.failure.error_message[:MAX_MESSAGE_CHARACTERS],
    )
    fault = Fault(code=code, message=message)
    key = line = None
    if outcome.row is not None:
        content, line = outcome.row.row, outcome.row.line
        # The row was not stored, so its key may have characters that Postgres does not accept
        key = make_printable(content.idempotency_key, MAX_KEY_LENGTH)
        if name := FIELDS_BY_ERROR_CODE.get(code):
            fault = Fault(
                code=code,
                field=name,
                message=message.removeprefix(f"{name}: "),
                value=make_printable(str(getattr(content, name))),
            )
    return RowResult(
        row_number=outcome.row_number,
        status=RowStatus.FAILED,
        idempotency_key=key,
        error_code=code,
        error_message=message,
        errors=[fault],
        line=line,
    )


def _build_recorded_result(outcome: RecordedRow) -> RowResult:
    recorded = outcome.recorded
    return RowResult(
        row_number=outcome.row_number,
        status=recorded.status,
        pin_id=recorded.pin_id,
        schedule_id=recorded.schedule_id,
        idempotency_key=outcome.idempotency_key,
        payload_matches=recorded.payload_matches,
        line=outcome.line,
        existing_state=recorded.existing_state,
        differing_fields=recorded.differing_fields,
        updated=recorded.updated,
    )

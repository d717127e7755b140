"""What the publisher tells the world of pins, and status of rows: records, made lean, as there is
one or more for each row.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import TypeAlias
from uuid import UUID

import msgspec

from services.publisher.pin_events import SOURCE
from services.publisher.rows.outcomes import (
    Created,
    Existing,
    Failed,
    Outcome,
    Replayed,
    result_ids,
)
from shared.contract.cloudevents import EventType, common_headers
from shared.contract.errors import ErrorCode
from shared.contract.events import (
    MAX_KEY,
    RowStatus,
)
from shared.contract.pins import printable
from shared.contract.schedule_ids import schedule_id_of
from shared.kafka.records import MAX_BATCH_BYTES, Record

_write = msgspec.json.Encoder().encode

FIELDS: dict[str, str] = {
    ErrorCode.ACCOUNT_NOT_FOUND: "account_id",
    ErrorCode.BOARD_NOT_FOUND: "board_id",
}
"""Which field of the row a failure is about."""
RESULTS_IN_A_RECORD = 200
"""50 KB of usual ones; the longest, every character escaped to six bytes, would be 1.2 MB: those go
in several records.
"""
MAX_MESSAGE = 1000
"""Characters of a failure that are told, more than any that is recorded today has.

Earlier versions recorded whatever came.
"""


POSITIONS_HEADER = "pinflow-positions"
"""The header of outcomes that says how far their batch went (history.py)."""
Reached: TypeAlias = Mapping[int, int]
"""By partition of `imports`: the offset behind a batch's last row."""
Headers: TypeAlias = "list[tuple[str, bytes]]"


# What there is one of for each row is a struct: half a dictionary's price, and quickly written


class _PinEvent(msgspec.Struct, frozen=True, gc=False):
    version: int
    pin_id: UUID
    workspace_id: UUID
    account_id: UUID
    board_id: str
    idempotency_key: str
    job_id: UUID
    row_number: int


_UUID = 36
_PIN_AT = len('{"version":1,"pin_id":"')
_WORKSPACE_AT = _PIN_AT + _UUID + len('","workspace_id":"')
_PIN_ID, _WORKSPACE_ID = (
    slice(_PIN_AT, _PIN_AT + _UUID),
    slice(_WORKSPACE_AT, _WORKSPACE_AT + _UUID),
)
"""Where their texts stand in an event that has been written: making them again would cost a tenth
of it, each.
"""


class _Published(_PinEvent, frozen=True, gc=False):
    """PinPublished."""

    published_at: datetime | None


class _Scheduled(_PinEvent, frozen=True, gc=False):
    """PinScheduled."""

    schedule_id: UUID
    run_at: datetime


class _Result(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """RowResult."""

    row_number: int
    status: RowStatus
    idempotency_key: str | None = None
    pin_id: UUID | None = None
    schedule_id: UUID | None = None
    payload_matches: bool | None = None
    error_code: str | None = None
    error_message: str | None = None
    errors: list[dict[str, str]] | None = None


def pin_event_records(outcomes: Iterable[Outcome]) -> list[Record]:
    """PinPublished or PinScheduled for every created row, in the rows' order.

    A redelivered row announces again, under the same id.
    """
    time = datetime.now(UTC)
    published = common_headers(EventType.PIN_PUBLISHED, source=SOURCE, time=time)
    scheduled = common_headers(EventType.PIN_SCHEDULED, source=SOURCE, time=time)
    records = []
    for outcome in outcomes:
        if isinstance(outcome, Created):
            value = _write(_event_of(outcome))
            pin_id = value[_PIN_ID]
            if outcome.stored.run_at is None:
                about = [("ce_id", pin_id + b":published"), *published]
            else:
                about = [("ce_id", pin_id + b":scheduled"), *scheduled]
            records.append(Record(value[_WORKSPACE_ID], value, about))
    return records


def _event_of(outcome: Created) -> _Published | _Scheduled:
    row, stored = outcome.keyed.row, outcome.stored
    pin = row.row
    workspace_id, job_id, number, key = (
        row.workspace_id,
        row.job_id,
        row.row_number,
        pin.idempotency_key,
    )
    if stored.run_at is None:
        return _Published(
            1,
            stored.pin_id,
            workspace_id,
            pin.account_id,
            pin.board_id,
            key,
            job_id,
            number,
            stored.published_at,
        )
    schedule_id = schedule_id_of(stored.pin_id)
    return _Scheduled(
        1,
        stored.pin_id,
        workspace_id,
        pin.account_id,
        pin.board_id,
        key,
        job_id,
        number,
        schedule_id,
        stored.run_at,
    )


def outcome_records(outcomes: Iterable[Outcome], reached: Reached | None = None) -> list[Record]:
    """Builds RowsSettled: one record per job, or a few, with rows in order.

    `reached` says how far the batch went in each partition of `imports`. A rewound publisher
    records the outcomes that lie behind its positions (history.py).
    """
    extra_headers = [(POSITIONS_HEADER, positions_header(reached))] if reached else []
    by_job: dict[tuple[int, int], list[_Result]] = defaultdict(
        list
    )  # not by UUIDs: they are hashed and compared in Python
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            by_job[outcome.job_id.int, outcome.workspace_id.int].append(_failed(outcome))
        elif isinstance(outcome, Replayed):
            by_job[outcome.job_id.int, outcome.workspace_id.int].append(_replayed(outcome))
        else:
            row = outcome.keyed.row
            by_job[row.job_id.int, row.workspace_id.int].append(_settled(outcome))
    return [
        record
        for (job, workspace), results in by_job.items()
        for record in _records_of_job(UUID(int=job), UUID(int=workspace), results, extra_headers)
    ]


def _records_of_job(
    job_id: UUID, workspace_id: UUID, results: list[_Result], extra_headers: Headers
) -> Iterator[Record]:
    results.sort(key=attrgetter("row_number"))
    for start in range(0, len(results), RESULTS_IN_A_RECORD):
        yield from _records_that_fit(
            job_id, workspace_id, results[start : start + RESULTS_IN_A_RECORD], extra_headers
        )


def _records_that_fit(
    job_id: UUID, workspace_id: UUID, results: list[_Result], extra_headers: Headers
) -> Iterator[Record]:
    """Halved until they do.

    One result always fits: 20 kB at most, as everything in it is cut or was bounded when it was
    decoded.
    """
    value = _write(
        {"version": 1, "job_id": job_id, "workspace_id": workspace_id, "results": results}
    )
    if len(value) > MAX_BATCH_BYTES and len(results) > 1:
        middle = len(results) // 2
        yield from _records_that_fit(job_id, workspace_id, results[:middle], extra_headers)
        yield from _records_that_fit(job_id, workspace_id, results[middle:], extra_headers)
    else:
        yield Record(str(job_id).encode(), value, extra_headers)


def _settled(outcome: Created | Existing) -> _Result:
    row, (pin_id, schedule_id) = outcome.keyed.row, result_ids(outcome)
    if isinstance(outcome, Created):
        return _Result(
            row.row_number, RowStatus.CREATED, row.row.idempotency_key, pin_id, schedule_id
        )
    matches = outcome.stored.fingerprint == row.fingerprint
    return _Result(
        row.row_number, RowStatus.EXISTING, row.row.idempotency_key, pin_id, schedule_id, matches
    )


def _failed(outcome: Failed) -> _Result:
    code, message = outcome.failure.error_code, outcome.failure.error_message[:MAX_MESSAGE]
    fault = {"code": code, "message": message}
    key = None
    if outcome.row is not None:
        content = outcome.row.row
        key = printable(
            content.idempotency_key, MAX_KEY
        )  # nobody has stored it: it may hold what Postgres can't
        if name := FIELDS.get(code):
            told = message.removeprefix(f"{name}: ")
            fault |= {
                "field": name,
                "message": told,
                "value": printable(str(getattr(content, name))),
            }
    return _Result(
        outcome.row_number,
        RowStatus.FAILED,
        key,
        error_code=code,
        error_message=message,
        errors=[fault],
    )


def _replayed(outcome: Replayed) -> _Result:
    recorded = outcome.recorded
    ids = (recorded.pin_id, recorded.schedule_id)
    return _Result(
        outcome.row_number, recorded.status, outcome.idempotency_key, *ids, recorded.payload_matches
    )


def positions_header(reached: Reached) -> bytes:
    """Encodes offsets by partition: `0:170,3:99`."""
    return ",".join(
        f"{partition}:{offset}" for partition, offset in sorted(reached.items())
    ).encode()


def parse_positions(header: bytes) -> dict[int, int]:
    """Decodes what `positions_header` encoded. Raises ValueError."""
    pairs = (part.split(":") for part in header.decode().split(","))
    return {int(partition): int(offset) for partition, offset in pairs}

"""What the publisher tells the world of pins, and status of rows: records, made lean, as there is one or more for each row."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from services.publisher.identity import schedule_id_of
from services.publisher.service import Created, Existing, Failed, Outcome, result_ids
from shared.cloudevents import EventType, common_headers, headers
from shared.errors import ErrorCode
from shared.events import MAX_KEY, PinFailed, PinPublished, RowStatus
from shared.messaging.records import MAX_BATCH_BYTES, Record
from shared.pins import printable

SOURCE = "/pinflow/publisher"
FIELDS: dict[str, str] = {ErrorCode.ACCOUNT_NOT_FOUND: "account_id", ErrorCode.BOARD_NOT_FOUND: "board_id"}
"""Which field of the row a failure is about."""
RESULTS_IN_A_RECORD = 200
"""50 KB of usual ones; the longest, every character escaped to six bytes, would be 1.2 MB: those go in several records."""
MAX_MESSAGE = 1000
"""Characters of a failure that are told, more than any that is recorded today has. Earlier versions recorded whatever came."""


class OutboxEvent(NamedTuple):
    """An event as it waits in the outbox, written in the transaction that made it true."""

    event_type: str
    event_id: str
    key: str
    payload: bytes
    occurred_at: datetime


def pin_published(row: Mapping[str, Any]) -> OutboxEvent:
    event = PinPublished(**_shared(row), published_at=row["published_at"])
    return _waiting(EventType.PIN_PUBLISHED, f"{row['pin_id']}:published", event, row["published_at"])


def pin_failed(row: Mapping[str, Any]) -> OutboxEvent:
    at = row["failed_at"]
    error = {"error_code": row["error_code"], "error_message": row["error_message"]}
    event = PinFailed(**_shared(row), schedule_id=schedule_id_of(row["pin_id"]), failed_at=at, **error)
    return _waiting(EventType.PIN_FAILED, f"{row['pin_id']}:failed:{at.isoformat()}", event, at)


def outbox_record(event: OutboxEvent) -> Record:
    about = headers(EventType(event.event_type), event_id=event.event_id, source=SOURCE, time=event.occurred_at)
    return Record(event.key.encode(), event.payload, about)


def pin_event_records(outcomes: Iterable[Outcome]) -> list[Record]:
    """PinPublished or PinScheduled for every created row, in the rows' order. A redelivered row announces again, under the same id."""
    time = datetime.now(UTC)
    published = common_headers(EventType.PIN_PUBLISHED, source=SOURCE, time=time)
    scheduled = common_headers(EventType.PIN_SCHEDULED, source=SOURCE, time=time)
    records = []
    for outcome in outcomes:
        if isinstance(outcome, Created):
            pin_id, workspace_id = _text_of(outcome.stored.pin_id), _text_of(outcome.ask.row.workspace_id)
            if outcome.stored.run_at is None:
                about = [("ce_id", b"%b:published" % pin_id), *published]
            else:
                about = [("ce_id", b"%b:scheduled" % pin_id), *scheduled]
            records.append(Record(workspace_id, orjson.dumps(_event_of(outcome)), about))
    return records


def _event_of(outcome: Created) -> dict[str, Any]:
    """PinPublished or PinScheduled."""
    row, stored = outcome.ask.row, outcome.stored
    event = {
        "version": 1,
        "pin_id": stored.pin_id,
        "workspace_id": row.workspace_id,
        "account_id": row.row.account_id,
        "board_id": row.row.board_id,
        "idempotency_key": row.row.idempotency_key,
        "job_id": row.job_id,
        "row_number": row.row_number,
    }
    if stored.run_at is None:
        event["published_at"] = stored.published_at
    else:
        event["schedule_id"] = schedule_id_of(stored.pin_id)
        event["run_at"] = stored.run_at
    return event


def _text_of(uuid: UUID) -> bytes:
    """As str() has it, at a fourth of its price."""
    return orjson.dumps(uuid)[1:-1]


def outcome_records(outcomes: Iterable[Outcome]) -> list[Record]:
    """RowsSettled, one record a job or a few, rows in order."""
    by_job: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)  # not by UUIDs: they are hashed and compared in Python
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            by_job[outcome.job_id.int, outcome.workspace_id.int].append(_failed(outcome))
        else:
            row = outcome.ask.row
            by_job[row.job_id.int, row.workspace_id.int].append(_settled(outcome))
    return [
        record for (job, workspace), results in by_job.items() for record in _records_of_job(UUID(int=job), UUID(int=workspace), results)
    ]


def _records_of_job(job_id: UUID, workspace_id: UUID, results: list[dict[str, Any]]) -> Iterator[Record]:
    results.sort(key=itemgetter("row_number"))
    for start in range(0, len(results), RESULTS_IN_A_RECORD):
        yield from _records_that_fit(job_id, workspace_id, results[start : start + RESULTS_IN_A_RECORD])


def _records_that_fit(job_id: UUID, workspace_id: UUID, results: list[dict[str, Any]]) -> Iterator[Record]:
    """Halved until they do. One result always fits: 20 kB at most, as everything in it is cut or was bounded when it was decoded."""
    value = orjson.dumps({"version": 1, "job_id": job_id, "workspace_id": workspace_id, "results": results})
    if len(value) > MAX_BATCH_BYTES and len(results) > 1:
        middle = len(results) // 2
        yield from _records_that_fit(job_id, workspace_id, results[:middle])
        yield from _records_that_fit(job_id, workspace_id, results[middle:])
    else:
        yield Record(_text_of(job_id), value)


def _settled(outcome: Created | Existing) -> dict[str, Any]:
    pin_id, schedule_id = result_ids(outcome)
    result: dict[str, Any] = {
        "row_number": outcome.ask.row.row_number,
        "status": RowStatus.CREATED if isinstance(outcome, Created) else RowStatus.EXISTING,
        "idempotency_key": outcome.ask.row.row.idempotency_key,
    }
    if pin_id is not None:
        result["pin_id"] = pin_id
    if schedule_id is not None:
        result["schedule_id"] = schedule_id
    if isinstance(outcome, Existing):
        result["payload_matches"] = outcome.stored.fingerprint == outcome.ask.row.fingerprint
    return result


def _failed(outcome: Failed) -> dict[str, Any]:
    code, message = outcome.failure.error_code, outcome.failure.error_message[:MAX_MESSAGE]
    result = {"row_number": outcome.row_number, "status": RowStatus.FAILED, "error_code": code, "error_message": message}
    fault: dict[str, Any] = {"code": code, "message": message}
    if outcome.row is not None:
        content = outcome.row.row
        result["idempotency_key"] = printable(content.idempotency_key, MAX_KEY)  # nobody has stored it: it may hold what Postgres can't
        if name := FIELDS.get(code):
            fault |= {
                "field": name,
                "message": message.removeprefix(f"{name}: "),
                "value": printable(str(getattr(content, name))),
            }
    result["errors"] = [fault]
    return result


def _shared(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("pin_id", "workspace_id", "account_id", "board_id", "idempotency_key")
    return {**{name: row[name] for name in names}, "job_id": row["origin_job_id"], "row_number": row["origin_row"]}


def _waiting(kind: EventType, event_id: str, event: PinPublished | PinFailed, at: datetime) -> OutboxEvent:
    return OutboxEvent(kind, event_id, str(event.workspace_id), event.model_dump_json().encode(), at)

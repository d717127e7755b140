"""Builds an import's events, and packs them for the outbox. Does no I/O.

The events are Pinflow's own: one for each created pin, one for the job.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import cramjam
import msgspec

from shared.contract.cloudevents import EventType, build_common_headers
from shared.contract.events import ImportCompleted, JobStatus, RowResult, RowStatus
from shared.contract.pin_events import PinScheduled, UndeliveredPinPublished
from shared.contract.schedule_ids import derive_schedule_id
from shared.contract.topics import TopicName
from shared.contract.wire import encode
from shared.kafka.records import Record
from tests.tools.bench.peers.equal_work.outcomes import ACCOUNT, BOARD, KEY, RUN_AT, Import
from tests.tools.bench.peers.rows import QueuedRow

SOURCE = "/peer"
_TOPICS: dict[str, TopicName] = {
    EventType.PIN_PUBLISHED: TopicName.PIN_EVENTS,
    EventType.PIN_SCHEDULED: TopicName.PIN_EVENTS,
    EventType.IMPORT_COMPLETED: TopicName.JOB_EVENTS,
}
_PIN_ID_START = len('{"version":1,"pin_id":"')
_PIN_ID = slice(_PIN_ID_START, _PIN_ID_START + 36)
"""The slice of an encoded event with its pin id. To format the id again would cost 1 µs."""


class PackedEvent(msgspec.Struct, array_like=True, gc=False):
    """An event as the outbox has it."""

    event_type: str
    event_id: bytes
    value: bytes


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(list[PackedEvent])


def build_events(
    import_: Import, results: Sequence[RowResult], pin_ids: dict[int, UUID], settled_at: datetime
) -> list[PackedEvent]:
    """Builds an event for each created pin, and the job's event after them."""
    rows = {row[0]: row for row in import_.rows}
    events = [
        _build_pin_event(import_, rows[result.row_number], pin_ids[result.row_number], settled_at)
        for result in results
        if result.status is RowStatus.CREATED
    ]
    job = _build_job_event(import_, results, settled_at)
    event_id = f"{job.job_id}:completed".encode()
    return [*events, PackedEvent(EventType.IMPORT_COMPLETED, event_id, encode(job))]


def _build_pin_event(
    import_: Import, row: QueuedRow, pin_id: UUID, settled_at: datetime
) -> PackedEvent:
    # Written out twice: a dictionary of the common fields would take as long as the encoding
    if row[RUN_AT] is None:
        value = encode(
            UndeliveredPinPublished(
                pin_id=pin_id,
                workspace_id=import_.workspace_id,
                account_id=row[ACCOUNT],
                board_id=row[BOARD],
                idempotency_key=row[KEY],
                job_id=import_.job_id,
                row_number=row[0],
                published_at=settled_at,
            )
        )
        return PackedEvent(EventType.PIN_PUBLISHED, value[_PIN_ID] + b":published", value)
    value = encode(
        PinScheduled(
            pin_id=pin_id,
            workspace_id=import_.workspace_id,
            account_id=row[ACCOUNT],
            board_id=row[BOARD],
            idempotency_key=row[KEY],
            job_id=import_.job_id,
            row_number=row[0],
            schedule_id=derive_schedule_id(pin_id),
            run_at=row[RUN_AT],
        )
    )
    return PackedEvent(EventType.PIN_SCHEDULED, value[_PIN_ID] + b":scheduled", value)


def _build_job_event(
    import_: Import, results: Sequence[RowResult], settled_at: datetime
) -> ImportCompleted:
    created, existing, failed = count_statuses(results)
    if failed == import_.total:
        status = JobStatus.FAILED
    else:
        status = JobStatus.COMPLETED_WITH_ERRORS if failed else JobStatus.COMPLETED
    return ImportCompleted(
        job_id=import_.job_id,
        workspace_id=import_.workspace_id,
        status=status,
        total_rows=import_.total,
        processed_rows=import_.total,
        created_rows=created,
        existing_rows=existing,
        failed_rows=failed,
        completed_at=settled_at,
    )


def count_statuses(results: Iterable[RowResult]) -> tuple[int, int, int]:
    """Counts created, existing and failed rows."""
    statuses = [result.status for result in results]
    return (
        statuses.count(RowStatus.CREATED),
        statuses.count(RowStatus.EXISTING),
        statuses.count(RowStatus.FAILED),
    )


def pack(events: list[PackedEvent]) -> bytes:
    """Packs an import's events into one value of the outbox, in a sixth of their size."""
    return bytes(cramjam.snappy.compress_raw(_encode(events)))


def build_records(workspace_id: UUID, packed: bytes) -> list[tuple[TopicName, Record]]:
    """Builds the records of an import's events, each with its topic."""
    key, now = str(workspace_id).encode(), datetime.now(UTC)
    headers = {
        event_type: build_common_headers(EventType(event_type), source=SOURCE, time=now)
        for event_type in _TOPICS
    }
    return [
        (
            _TOPICS[event.event_type],
            Record(key, event.value, [("ce_id", event.event_id), *headers[event.event_type]]),
        )
        for event in _decode.decode(bytes(cramjam.snappy.decompress_raw(packed)))
    ]

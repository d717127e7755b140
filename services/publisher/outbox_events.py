"""Builds the events of single pins. They wait in the outbox until Kafka has them. No I/O."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum, auto
from typing import Any, NamedTuple, assert_never

from shared.contract.cloudevents import EventType, build_headers
from shared.contract.pin_events import (
    PinDeferred,
    PinEvent,
    PinFailed,
    PinPublished,
    PinQueued,
    PinScheduled,
    UndeliveredPinPublished,
)
from shared.contract.schedule_ids import derive_schedule_id
from shared.contract.wire import encode
from shared.kafka.records import Record

SOURCE = "/pinflow/publisher"


class OutboxEvent(NamedTuple):
    """An event of the outbox. The transaction that changes the pin also writes its event."""

    event_type: str
    event_id: str
    key: str
    payload: bytes
    occurred_at: datetime


class PinChange(Enum):
    """The kinds of changes to a pin that an event announces."""

    PUBLISHED = auto()
    RESCHEDULED = auto()
    QUEUED = auto()


def build_change_event(change: PinChange, row: Mapping[str, Any]) -> OutboxEvent:
    """Builds the event of a change. `row` is the pin after the change."""
    match change:
        case PinChange.PUBLISHED:
            return build_pin_published(row)
        case PinChange.RESCHEDULED:
            return build_pin_rescheduled(row)
        case PinChange.QUEUED:
            return build_pin_requeued(row)
        case _:
            assert_never(change)


def build_pin_created(row: Mapping[str, Any]) -> OutboxEvent:
    """Builds the event of a new pin without a time: it is published, or queued for Pinterest."""
    return build_pin_published(row) if row["delivery"] is None else build_pin_queued(row)


def build_pin_published(row: Mapping[str, Any]) -> OutboxEvent:
    """Builds the event of a published pin, with its `pinterest_pin_id` if it was delivered."""
    fields = {**_select_common_fields(row), "published_at": row["published_at"]}
    pinterest_pin_id = row.get("pinterest_pin_id")
    event = (
        UndeliveredPinPublished(**fields)
        if pinterest_pin_id is None
        else PinPublished(**fields, pinterest_pin_id=pinterest_pin_id)
    )
    event_id = f"{row['pin_id']}:published"
    return _build_outbox_event(EventType.PIN_PUBLISHED, event_id, event, row["published_at"])


def build_pin_queued(row: Mapping[str, Any]) -> OutboxEvent:
    """Builds the event of a pin that a direct call created.

    The event id has the same form as that of a pin from an import.
    """
    event = PinQueued(**_select_common_fields(row), queued_at=row["created_at"])
    event_id = f"{row['pin_id']}:queued"
    return _build_outbox_event(EventType.PIN_QUEUED, event_id, event, row["created_at"])


def build_pin_requeued(row: Mapping[str, Any]) -> OutboxEvent:
    """Builds the event of a stored pin that becomes queued: it is due, retried or updated.

    `row` has the time as `updated_at`. Each change has its own event id.
    """
    queued_at = row["updated_at"]
    event = PinQueued(**_select_common_fields(row), queued_at=queued_at)
    event_id = f"{row['pin_id']}:queued:{queued_at.isoformat()}"
    return _build_outbox_event(EventType.PIN_QUEUED, event_id, event, queued_at)


def build_pin_deferred(row: Mapping[str, Any]) -> OutboxEvent:
    """Builds the event of a queued pin that waits for a cause of its own.

    `row` has the end as `deliver_after`, the cause as `deferral_code` and the time as `updated_at`.
    """
    deferred_at = row["updated_at"]
    event = PinDeferred(
        **_select_common_fields(row),
        error_code=row["deferral_code"],
        deferred_until=row["deliver_after"],
        deferred_at=deferred_at,
    )
    event_id = f"{row['pin_id']}:deferred:{deferred_at.isoformat()}"
    return _build_outbox_event(EventType.PIN_DEFERRED, event_id, event, deferred_at)


def build_pin_failed(row: Mapping[str, Any]) -> OutboxEvent:
    """Builds the event of a failed pin. `row` has the time as `failed_at`."""
    failed_at = row["failed_at"]
    event = PinFailed(
        **_select_common_fields(row),
        schedule_id=None if row["run_at"] is None else derive_schedule_id(row["pin_id"]),
        failed_at=failed_at,
        error_code=row["error_code"],
        error_message=row["error_message"],
    )
    event_id = f"{row['pin_id']}:failed:{failed_at.isoformat()}"
    return _build_outbox_event(EventType.PIN_FAILED, event_id, event, failed_at)


def build_pin_scheduled(row: Mapping[str, Any]) -> OutboxEvent:
    """Builds the event of a schedule from a direct call.

    The event id has the same form as that of a schedule from an import.
    """
    event_id = f"{row['pin_id']}:scheduled"
    return _build_outbox_event(
        EventType.PIN_SCHEDULED, event_id, _build_scheduled(row), row["created_at"]
    )


def build_pin_rescheduled(row: Mapping[str, Any]) -> OutboxEvent:
    """Builds the event of a moved or retried schedule. Each change has its own event id."""
    updated_at = row["updated_at"]
    event_id = f"{row['pin_id']}:scheduled:{updated_at.isoformat()}"
    return _build_outbox_event(EventType.PIN_SCHEDULED, event_id, _build_scheduled(row), updated_at)


def build_outbox_record(event: OutboxEvent) -> Record:
    record_headers = build_headers(
        EventType(event.event_type), event_id=event.event_id, source=SOURCE, time=event.occurred_at
    )
    return Record(event.key.encode(), event.payload, record_headers)


def _build_scheduled(row: Mapping[str, Any]) -> PinScheduled:
    schedule_id = derive_schedule_id(row["pin_id"])
    return PinScheduled(**_select_common_fields(row), schedule_id=schedule_id, run_at=row["run_at"])


def _select_common_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("pin_id", "workspace_id", "account_id", "board_id", "idempotency_key")
    return {
        **{name: row[name] for name in names},
        "job_id": row["origin_job_id"],
        "row_number": row["origin_row"],
    }


def _build_outbox_event(
    kind: EventType, event_id: str, event: PinEvent, occurred_at: datetime
) -> OutboxEvent:
    payload = encode(event)
    return OutboxEvent(kind, event_id, str(event.workspace_id), payload, occurred_at)

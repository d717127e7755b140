"""Builds a webhook's payload and event id from a Kafka event. Every attempt sends the same body."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from pydantic import ValidationError

from services.webhooks.ids import compute_event_id
from shared.contract.cloudevents import EventType
from shared.contract.errors import ErrorCode, Poison
from shared.contract.events import ImportCompleted, JobStatus
from shared.contract.pin_events import PinFailed, PinPublished
from shared.contract.validation import describe_validation_error
from shared.contract.wire import WireStruct, decoder


class EventName(StrEnum):
    """Events that webhooks can subscribe to: two of PinBridge, and Pinflow's own for imports."""

    PIN_PUBLISHED = "pin.published"
    PIN_FAILED = "pin.failed"
    IMPORT_COMPLETED = "import.completed"
    IMPORT_COMPLETED_WITH_ERRORS = "import.completed_with_errors"
    IMPORT_FAILED = "import.failed"


class WebhookEvent(NamedTuple):
    """Holds an event's payload for receivers, and the time of its Kafka record."""

    workspace_id: UUID
    event_id: str
    event_name: EventName
    body: str
    record_time_ms: int


class _EventMapping(NamedTuple):
    """Maps a Kafka event to a webhook's event."""

    decode: Callable[[bytes], Any]
    time_field: str
    """The field with the event's time."""
    data_fields: tuple[str, ...]
    event_names: Mapping[JobStatus, EventName] | EventName

    def find_event_name(self, event: Any) -> EventName | None:
        if isinstance(self.event_names, EventName):
            return self.event_names
        return self.event_names.get(event.status)


_EXCLUDED_FIELDS = {"version", "workspace_id"}
_JOB_EVENT_NAMES = {
    JobStatus.COMPLETED: EventName.IMPORT_COMPLETED,
    JobStatus.COMPLETED_WITH_ERRORS: EventName.IMPORT_COMPLETED_WITH_ERRORS,
    JobStatus.FAILED: EventName.IMPORT_FAILED,
}


def _build_mapping(
    event_class: type[WireStruct],
    time_field: str,
    event_names: Mapping[JobStatus, EventName] | EventName,
) -> _EventMapping:
    return _EventMapping(
        decoder(event_class),
        time_field,
        tuple(name for name in event_class.__struct_fields__ if name not in _EXCLUDED_FIELDS),
        event_names,
    )


_MAPPINGS = {
    EventType.PIN_PUBLISHED.encode(): _build_mapping(
        PinPublished, "published_at", EventName.PIN_PUBLISHED
    ),
    EventType.PIN_FAILED.encode(): _build_mapping(PinFailed, "failed_at", EventName.PIN_FAILED),
    EventType.IMPORT_COMPLETED.encode(): _build_mapping(
        ImportCompleted, "completed_at", _JOB_EVENT_NAMES
    ),
}


def read_event(
    workspace_id: UUID,
    headers: Sequence[tuple[str, bytes | None]],
    value: bytes,
    record_time_ms: int,
) -> WebhookEvent | None:
    """Decodes a record. Returns None for a type that webhooks can't subscribe to.

    Raises Poison if the value is invalid, the header `ce_id` is missing, or the event names another
    workspace than `workspace_id`, which is the record's key.
    """
    attributes = dict(headers)
    mapping = _MAPPINGS.get(attributes.get("ce_type") or b"")
    if mapping is None:
        return None
    try:
        event = mapping.decode(value)
    except ValidationError as error:
        raise Poison(ErrorCode.INVALID_RECORD, describe_validation_error(error)) from None
    ce_id = attributes.get("ce_id")
    if not ce_id:
        raise Poison(ErrorCode.INVALID_RECORD, "ce_id: the header is missing")
    if event.workspace_id != workspace_id:  # another workspace's webhooks must not get it
        raise Poison(ErrorCode.INVALID_RECORD, "workspace_id: differs from the record's key")
    event_name = mapping.find_event_name(event)
    if event_name is None:
        raise Poison(
            ErrorCode.INVALID_RECORD,
            f"status: must be the status of a job that has ended, not {event.status}",
        )
    event_id = compute_event_id(workspace_id, ce_id)
    document = {
        "id": event_id,
        "type": event_name,
        "event": event_name,
        "created_at": getattr(event, mapping.time_field),
        "workspace_id": workspace_id,
        "data": {field: getattr(event, field) for field in mapping.data_fields},
    }
    body = orjson.dumps(document, option=orjson.OPT_UTC_Z).decode()
    return WebhookEvent(workspace_id, event_id, event_name, body, record_time_ms)

"""Builds a webhook's payload and event id from a Kafka event. Every attempt sends the same body."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from pydantic import ValidationError

from shared.contract.cloudevents import EventType
from shared.contract.errors import ErrorCode, Poison
from shared.contract.events import ImportCompleted, JobStatus, PinFailed, PinPublished
from shared.contract.validation import describe_validation_error
from shared.contract.wire import WireStruct, decoder


class EventName(StrEnum):
    """What a webhook can be told of: PinBridge's two, and Pinflow's own of imports."""

    PIN_PUBLISHED = "pin.published"
    PIN_FAILED = "pin.failed"
    IMPORT_COMPLETED = "import.completed"
    IMPORT_COMPLETED_WITH_ERRORS = "import.completed_with_errors"
    IMPORT_FAILED = "import.failed"


class WebhookEvent(NamedTuple):
    """Holds what receivers get of an event, and when Kafka's record says it was announced."""

    workspace_id: UUID
    event_id: str
    name: EventName
    body: str
    announced_ms: int


class _Kind(NamedTuple):
    decode: Callable[[bytes], Any]
    time_field: str
    """The field with the time of the event."""
    data: tuple[str, ...]
    names: Mapping[JobStatus, EventName] | EventName

    def name_of(self, event: Any) -> EventName | None:
        return self.names if isinstance(self.names, EventName) else self.names.get(event.status)


_NOT_DATA = {"version", "workspace_id"}
_OF_JOBS = {
    JobStatus.COMPLETED: EventName.IMPORT_COMPLETED,
    JobStatus.COMPLETED_WITH_ERRORS: EventName.IMPORT_COMPLETED_WITH_ERRORS,
    JobStatus.FAILED: EventName.IMPORT_FAILED,
}


def _kind(
    event_type: type[WireStruct], time_field: str, names: Mapping[JobStatus, EventName] | EventName
) -> _Kind:
    return _Kind(
        decoder(event_type),
        time_field,
        tuple(name for name in event_type.__struct_fields__ if name not in _NOT_DATA),
        names,
    )


_KINDS = {
    EventType.PIN_PUBLISHED.encode(): _kind(PinPublished, "published_at", EventName.PIN_PUBLISHED),
    EventType.PIN_FAILED.encode(): _kind(PinFailed, "failed_at", EventName.PIN_FAILED),
    EventType.IMPORT_COMPLETED.encode(): _kind(ImportCompleted, "completed_at", _OF_JOBS),
}


def read_event(
    workspace_id: UUID,
    headers: Sequence[tuple[str, bytes | None]],
    value: bytes,
    announced_ms: int,
) -> WebhookEvent | None:
    """Decodes a record. Returns None for a type that webhooks can't subscribe to.

    Raises Poison for a record that is not what its headers say.
    """
    attributes = dict(headers)
    kind = _KINDS.get(attributes.get("ce_type") or b"")
    if kind is None:
        return None
    try:
        event = kind.decode(value)
    except ValidationError as error:
        raise Poison(ErrorCode.INVALID_RECORD, describe_validation_error(error)) from None
    ce_id = attributes.get("ce_id")
    if not ce_id:
        raise Poison(ErrorCode.INVALID_RECORD, "no ce_id")
    if event.workspace_id != workspace_id:  # another workspace's webhooks must not get it
        raise Poison(ErrorCode.INVALID_RECORD, "the event is not of the workspace that is its key")
    name = kind.name_of(event)
    if name is None:
        raise Poison(
            ErrorCode.INVALID_RECORD, f"status: a job that is {event.status} has not ended"
        )
    event_id = event_id_of(workspace_id, ce_id)
    document = {
        "id": event_id,
        "type": name,
        "event": name,
        "created_at": getattr(event, kind.time_field),
        "workspace_id": workspace_id,
        "data": {field: getattr(event, field) for field in kind.data},
    }
    body = orjson.dumps(document, option=orjson.OPT_UTC_Z).decode()
    return WebhookEvent(workspace_id, event_id, name, body, announced_ms)


def event_id_of(workspace_id: UUID, ce_id: bytes) -> str:
    """Computes an event's id. It is the same for all announcements and all webhooks.

    The CloudEvents id itself does not serve. That of a failed pin has a dot, which is Standard
    Webhooks' separator, and a producer could write a line break into one.
    """
    return f"evt_{blake2b(workspace_id.bytes + ce_id, digest_size=16).hexdigest()}"

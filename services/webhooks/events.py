"""What Kafka's events become for receivers: the body, which is the same at every attempt, and what
it is known by.
"""

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
from shared.contract.validation import describe
from shared.contract.wire import WireStruct, decoder


class EventName(StrEnum):
    """What a webhook can be told of: PinBridge's two, and Pinflow's own of imports."""

    PIN_PUBLISHED = "pin.published"
    PIN_FAILED = "pin.failed"
    IMPORT_COMPLETED = "import.completed"
    IMPORT_COMPLETED_WITH_ERRORS = "import.completed_with_errors"
    IMPORT_FAILED = "import.failed"


class Announcement(NamedTuple):
    event_id: str
    name: EventName
    body: str


class _Kind(NamedTuple):
    decode: Callable[[bytes], Any]
    at: str
    """The field that says when it happened."""
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
    event_type: type[WireStruct], at: str, names: Mapping[JobStatus, EventName] | EventName
) -> _Kind:
    return _Kind(
        decoder(event_type),
        at,
        tuple(name for name in event_type.__struct_fields__ if name not in _NOT_DATA),
        names,
    )


_KINDS = {
    EventType.PIN_PUBLISHED.encode(): _kind(PinPublished, "published_at", EventName.PIN_PUBLISHED),
    EventType.PIN_FAILED.encode(): _kind(PinFailed, "failed_at", EventName.PIN_FAILED),
    EventType.IMPORT_COMPLETED.encode(): _kind(ImportCompleted, "completed_at", _OF_JOBS),
}


def announcement(
    workspace_id: UUID, headers: Sequence[tuple[str, bytes | None]], value: bytes
) -> Announcement | None:
    """None for what receivers are not told of.

    Raises Poison for a record that is not what its headers say.
    """
    about = dict(headers)
    kind = _KINDS.get(about.get("ce_type") or b"")
    if kind is None:
        return None
    try:
        event = kind.decode(value)
    except ValidationError as error:
        raise Poison(ErrorCode.INVALID_RECORD, describe(error)) from None
    ce_id = about.get("ce_id")
    if not ce_id:
        raise Poison(ErrorCode.INVALID_RECORD, "no ce_id")
    if event.workspace_id != workspace_id:  # or what is one's would be told to another
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
        "created_at": getattr(event, kind.at),
        "workspace_id": workspace_id,
        "data": {field: getattr(event, field) for field in kind.data},
    }
    return Announcement(event_id, name, orjson.dumps(document, option=orjson.OPT_UTC_Z).decode())


def event_id_of(workspace_id: UUID, ce_id: bytes) -> str:
    """The same fact has the same id, however often it is announced and whatever it is told to.

    Not Kafka's own: that of a failed pin has a dot, which separates what Standard Webhooks signs,
    and whoever may produce could write a line break into it.
    """
    return f"evt_{blake2b(workspace_id.bytes + ce_id, digest_size=16).hexdigest()}"

"""CloudEvents 1.0 over Kafka in binary mode.

The attributes are headers `ce_*`; the data is the record's value.
"""

from datetime import UTC, datetime
from enum import StrEnum

Headers = list[tuple[str, bytes]]


class EventType(StrEnum):
    IMPORT_REQUESTED = "pinflow.import.requested.v1"
    IMPORT_COMPLETED = "pinflow.import.completed.v1"
    PIN_PUBLISHED = "pinflow.pin.published.v1"
    PIN_SCHEDULED = "pinflow.pin.scheduled.v1"
    PIN_QUEUED = "pinflow.pin.queued.v1"
    PIN_DEFERRED = "pinflow.pin.deferred.v1"
    PIN_FAILED = "pinflow.pin.failed.v1"


def build_headers(event_type: EventType, *, event_id: str, source: str, time: datetime) -> Headers:
    """Builds the headers of one event.

    An event that is sent again must have the same `event_id`.
    """
    return [
        ("ce_id", event_id.encode()),
        *build_common_headers(event_type, source=source, time=time),
    ]


def build_common_headers(event_type: EventType, *, source: str, time: datetime) -> Headers:
    """Builds the headers that many events of one type share: all except the id."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_source", source.encode()),
        ("ce_type", event_type.encode()),
        ("ce_time", time.astimezone(UTC).isoformat().encode()),
        ("content-type", b"application/json"),
    ]

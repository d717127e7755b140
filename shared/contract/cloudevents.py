"""CloudEvents 1.0 over Kafka, binary mode: the attributes are headers `ce_*`, the data is the
record's value.
"""

from datetime import UTC, datetime
from enum import StrEnum

Headers = list[tuple[str, bytes]]


class EventType(StrEnum):
    IMPORT_REQUESTED = "pinflow.import.requested.v1"
    IMPORT_COMPLETED = "pinflow.import.completed.v1"
    PIN_PUBLISHED = "pinflow.pin.published.v1"
    PIN_SCHEDULED = "pinflow.pin.scheduled.v1"
    PIN_FAILED = "pinflow.pin.failed.v1"


def build_headers(event_type: EventType, *, event_id: str, source: str, time: datetime) -> Headers:
    """The headers of one event.

    The same fact must carry the same `event_id` however often it is announced.
    """
    return [
        ("ce_id", event_id.encode()),
        *build_common_headers(event_type, source=source, time=time),
    ]


def build_common_headers(event_type: EventType, *, source: str, time: datetime) -> Headers:
    """All but the id, for many events of one kind."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_source", source.encode()),
        ("ce_type", event_type.encode()),
        ("ce_time", time.astimezone(UTC).isoformat().encode()),
        ("content-type", b"application/json"),
    ]

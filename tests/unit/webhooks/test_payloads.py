"""Payloads of webhook events, and records that cause none."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.webhooks.payloads import WebhookEvent, read_event
from shared.contract.cloudevents import EventType
from shared.contract.errors import Poison
from shared.contract.events import ImportCompleted, JobStatus
from shared.contract.pin_events import (
    PinDeferred,
    PinFailed,
    PinPublished,
    PinQueued,
    PinScheduled,
    UndeliveredPinPublished,
)
from shared.contract.wire import encode
from tests.support.factories import ACCOUNT, NOON

WORKSPACE = uuid4()
JOB, PIN = uuid4(), uuid4()
SHARED: dict[str, Any] = {
    "pin_id": PIN,
    "workspace_id": WORKSPACE,
    "account_id": ACCOUNT,
    "board_id": "b",
    "idempotency_key": "k\0 ü",
}
COUNTERS: dict[str, Any] = {
    "total_rows": 3,
    "processed_rows": 3,
    "created_rows": 1,
    "existing_rows": 1,
    "failed_rows": 1,
}


def decoded(
    kind: EventType, value: bytes, *, ce_id: bytes | None = b"an-id", key: UUID = WORKSPACE
) -> WebhookEvent | None:
    headers: list[tuple[str, bytes | None]] = [("ce_type", kind.encode())]
    if ce_id is not None:
        headers.append(("ce_id", ce_id))
    return read_event(key, headers, value, 0)


def document(kind: EventType, value: bytes) -> dict[str, Any]:
    event = decoded(kind, value)
    assert event is not None
    payload: dict[str, Any] = json.loads(event.body)
    assert payload["id"] == event.event_id
    assert (payload["type"], payload["event"]) == (event.event_name, event.event_name)
    assert payload["workspace_id"] == str(WORKSPACE)
    return payload


def test_the_payload_of_a_published_pin() -> None:
    event = PinPublished(**SHARED, job_id=JOB, row_number=7, published_at=NOON)
    payload = document(EventType.PIN_PUBLISHED, encode(event))
    assert (payload["event"], payload["created_at"]) == ("pin.published", "2026-11-23T12:00:00Z")
    assert payload["data"] == {
        "pin_id": str(PIN),
        "account_id": str(ACCOUNT),
        "board_id": "b",
        "idempotency_key": "k\0 ü",
        "job_id": str(JOB),
        "row_number": 7,
        "published_at": "2026-11-23T12:00:00Z",
        "pinterest_pin_id": None,
    }


def test_the_payload_of_a_delivered_pin_has_its_id_on_pinterest() -> None:
    event = PinPublished(**SHARED, published_at=NOON, pinterest_pin_id="813744226420795884")
    payload = document(EventType.PIN_PUBLISHED, encode(event))
    assert payload["data"]["pinterest_pin_id"] == "813744226420795884"


def test_the_record_of_an_undelivered_pin_gives_the_same_payload_as_before() -> None:
    """Reads a record without pinterest_pin_id, as every earlier version sent it."""
    payloads = [
        document(EventType.PIN_PUBLISHED, encode(event(**SHARED, published_at=NOON)))
        for event in (PinPublished, UndeliveredPinPublished)
    ]
    assert payloads[0] == payloads[1]


def test_the_payload_of_a_failed_pin() -> None:
    event = PinFailed(**SHARED, error_code="board_not_found", error_message="gone", failed_at=NOON)
    payload = document(EventType.PIN_FAILED, encode(event))
    assert (payload["event"], payload["data"]["error_code"], payload["data"]["job_id"]) == (
        "pin.failed",
        "board_not_found",
        None,
    )


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (JobStatus.COMPLETED, "import.completed"),
        (JobStatus.COMPLETED_WITH_ERRORS, "import.completed_with_errors"),
        (JobStatus.FAILED, "import.failed"),
    ],
)
def test_the_payload_of_an_ended_import(status: JobStatus, name: str) -> None:
    event = ImportCompleted(
        job_id=JOB, workspace_id=WORKSPACE, status=status, **COUNTERS, completed_at=NOON
    )
    payload = document(EventType.IMPORT_COMPLETED, encode(event))
    assert payload["event"] == name
    assert payload["data"] == {
        **COUNTERS,
        "request_id": None,
        "job_id": str(JOB),
        "status": status,
        "error_message": None,
        "completed_at": "2026-11-23T12:00:00Z",
    }


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (EventType.PIN_QUEUED, PinQueued(**SHARED, queued_at=NOON)),
        (
            EventType.PIN_DEFERRED,
            PinDeferred(
                **SHARED, error_code="media_unreachable", deferred_until=NOON, deferred_at=NOON
            ),
        ),
    ],
)
def test_a_queued_or_deferred_pin_causes_no_webhook_event(
    kind: EventType, event: PinQueued | PinDeferred
) -> None:
    assert decoded(kind, encode(event)) is None


def test_a_scheduled_pin_causes_no_webhook_event() -> None:
    event = PinScheduled(**SHARED, schedule_id=uuid4(), run_at=NOON)
    assert decoded(EventType.PIN_SCHEDULED, encode(event)) is None


PUBLISHED = encode(PinPublished(**SHARED, published_at=NOON))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"value": b"garbage"}, "JSON"),
        ({"value": b"{}"}, "is required"),
        ({"value": PUBLISHED, "ce_id": None}, "ce_id: the header is missing"),
        ({"value": PUBLISHED, "key": uuid4()}, "workspace_id: differs"),
    ],
)
def test_an_unreadable_or_inconsistent_record_is_poison(
    record: dict[str, Any], message: str
) -> None:
    with pytest.raises(Poison, match=message):
        decoded(EventType.PIN_PUBLISHED, **record)

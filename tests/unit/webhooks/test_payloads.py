"""What receivers are told, and what is no event of theirs."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.webhooks.events import WebhookEvent, read_event
from shared.contract.cloudevents import EventType
from shared.contract.errors import Poison
from shared.contract.events import ImportCompleted, JobStatus, PinFailed, PinPublished, PinScheduled
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
    found = decoded(kind, value)
    assert found is not None
    read: dict[str, Any] = json.loads(found.body)
    assert (read["id"], read["type"], read["event"]) == (found.event_id, found.name, found.name)
    assert read["workspace_id"] == str(WORKSPACE)
    return read


def test_a_published_pin() -> None:
    event = PinPublished(**SHARED, job_id=JOB, row_number=7, published_at=NOON)
    read = document(EventType.PIN_PUBLISHED, encode(event))
    assert (read["event"], read["created_at"]) == ("pin.published", "2026-11-23T12:00:00Z")
    assert read["data"] == {
        "pin_id": str(PIN),
        "account_id": str(ACCOUNT),
        "board_id": "b",
        "idempotency_key": "k\0 ü",
        "job_id": str(JOB),
        "row_number": 7,
        "published_at": "2026-11-23T12:00:00Z",
    }


def test_a_failed_pin() -> None:
    event = PinFailed(**SHARED, error_code="board_not_found", error_message="gone", failed_at=NOON)
    read = document(EventType.PIN_FAILED, encode(event))
    assert (read["event"], read["data"]["error_code"], read["data"]["job_id"]) == (
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
def test_an_import_that_ended(status: JobStatus, name: str) -> None:
    event = ImportCompleted(
        job_id=JOB, workspace_id=WORKSPACE, status=status, **COUNTERS, completed_at=NOON
    )
    read = document(EventType.IMPORT_COMPLETED, encode(event))
    assert read["event"] == name
    assert read["data"] == {
        **COUNTERS,
        "request_id": None,
        "job_id": str(JOB),
        "status": status,
        "error_message": None,
        "completed_at": "2026-11-23T12:00:00Z",
    }


def test_of_a_scheduled_pin_nobody_is_told() -> None:
    event = PinScheduled(**SHARED, schedule_id=uuid4(), run_at=NOON)
    assert decoded(EventType.PIN_SCHEDULED, encode(event)) is None


PUBLISHED = encode(PinPublished(**SHARED, published_at=NOON))


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"value": b"garbage"}, "JSON"),
        ({"value": b"{}"}, "Field required"),
        ({"value": PUBLISHED, "ce_id": None}, "no ce_id"),
        ({"value": PUBLISHED, "key": uuid4()}, "not of the workspace"),
    ],
)
def test_what_is_not_what_its_headers_say_is_poison(about: dict[str, Any], message: str) -> None:
    with pytest.raises(Poison, match=message):
        decoded(EventType.PIN_PUBLISHED, **about)

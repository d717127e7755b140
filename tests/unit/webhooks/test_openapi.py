"""The OpenAPI document and the guide describe exactly the requests that webhooks send."""

import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from services.webhooks.delivery.signing import signed_headers
from services.webhooks.openapi import PAYLOADS
from services.webhooks.payloads import EventName, read_event
from shared.contract.cloudevents import EventType
from shared.contract.events import ImportCompleted, JobStatus
from shared.contract.pin_events import PinFailed, PinPublished
from shared.contract.wire import WireStruct, encode
from tests.support.applications import shared_document
from tests.support.factories import ACCOUNT, NOON

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "receive-webhooks.md"
DOCUMENT = shared_document()
REQUESTS: dict[str, dict[str, Any]] = {
    name: methods["post"] for name, methods in DOCUMENT["webhooks"].items()
}
WORKSPACE = uuid4()
PIN: dict[str, Any] = {
    "pin_id": uuid4(),
    "workspace_id": WORKSPACE,
    "account_id": ACCOUNT,
    "board_id": "b",
    "idempotency_key": "k",
}


def build_import(status: JobStatus) -> ImportCompleted:
    return ImportCompleted(
        job_id=uuid4(),
        workspace_id=WORKSPACE,
        status=status,
        total_rows=2,
        processed_rows=2,
        created_rows=1,
        existing_rows=0,
        failed_rows=1,
        completed_at=NOON,
    )


EVENTS: dict[EventName, tuple[EventType, WireStruct]] = {
    EventName.PIN_PUBLISHED: (EventType.PIN_PUBLISHED, PinPublished(**PIN, published_at=NOON)),
    EventName.PIN_FAILED: (
        EventType.PIN_FAILED,
        PinFailed(**PIN, error_code="board_not_found", error_message="No board.", failed_at=NOON),
    ),
    EventName.IMPORT_COMPLETED: (EventType.IMPORT_COMPLETED, build_import(JobStatus.COMPLETED)),
    EventName.IMPORT_COMPLETED_WITH_ERRORS: (
        EventType.IMPORT_COMPLETED,
        build_import(JobStatus.COMPLETED_WITH_ERRORS),
    ),
    EventName.IMPORT_FAILED: (EventType.IMPORT_COMPLETED, build_import(JobStatus.FAILED)),
}


def read_body(name: EventName) -> dict[str, Any]:
    kind, event = EVENTS[name]
    headers: list[tuple[str, bytes | None]] = [("ce_type", kind.encode()), ("ce_id", b"an-id")]
    sent = read_event(WORKSPACE, headers, encode(event), 0)
    assert sent is not None
    assert sent.event_name == name
    body: dict[str, Any] = json.loads(sent.body)
    return body


def test_the_document_has_a_request_for_each_event() -> None:
    assert list(REQUESTS) == [name.value for name in EventName] == [name.value for name in PAYLOADS]


@pytest.mark.parametrize("name", EventName)
def test_a_sent_body_matches_its_schema_with_exactly_its_fields(name: EventName) -> None:
    body = read_body(name)
    schema = REQUESTS[name]["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, format_checker=FormatChecker()
    )
    assert [fault.message for fault in validator.iter_errors(body)] == []
    payload, _description = PAYLOADS[name]
    assert set(body) == set(payload.model_fields)
    data = payload.model_fields["data"].annotation
    assert data is not None
    assert set(body["data"]) == set(data.model_fields)


@pytest.mark.parametrize("name", EventName)
def test_the_described_headers_are_those_that_are_sent(name: EventName) -> None:
    sent = signed_headers(
        "secret", event_name=name, event_id="evt_1", delivery_id="1", timestamp=1, body=b"{}"
    )
    described = REQUESTS[name]["parameters"]
    assert {parameter["name"] for parameter in described} == set(sent)
    assert {parameter["in"] for parameter in described} == {"header"}


def read_guide() -> dict[str, set[str]]:
    """Returns the fields of `data` that the guide's table names, by event."""
    rows = re.findall(
        r"^\| (`[a-z_.]+`(?:, `[a-z_.]+`)*) \| .* \| (.*) \|$", GUIDE.read_text(), re.MULTILINE
    )
    fields: dict[str, set[str]] = {}
    previous: set[str] = set()
    for events, text in rows:
        own = set(re.findall(r"\b[a-z]+_[a-z_]+\b", text))
        if text.startswith("the same, and"):
            own |= previous - {"published_at"}
        for event in re.findall(r"`([a-z_.]+)`", events):
            fields[event] = own
        previous = own
    return fields


def test_the_guide_lists_the_events_and_their_fields() -> None:
    guide = read_guide()
    assert set(guide) == {name.value for name in EventName}
    for name, (payload, _description) in PAYLOADS.items():
        data = payload.model_fields["data"].annotation
        assert data is not None
        assert guide[name] == set(data.model_fields) - {"status"}, name

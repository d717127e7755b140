"""The events of single pins: what they say of a delivery, and their ids."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest

from services.publisher.outbox_events import (
    OutboxEvent,
    PinChange,
    build_change_event,
    build_pin_created,
    build_pin_deferred,
    build_pin_failed,
    build_pin_published,
    build_pin_queued,
    build_pin_requeued,
)
from shared.contract.pin_events import PinDeferred, PinFailed, PinPublished, PinQueued
from shared.contract.schedule_ids import derive_schedule_id
from tests.support.events import parse_event
from tests.support.factories import NOON

LATER = NOON + timedelta(minutes=2)


def build_row(**values: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "pin_id": uuid4(),
        "workspace_id": uuid4(),
        "account_id": uuid4(),
        "board_id": "549755813888000001",
        "idempotency_key": "lamp",
        "origin_job_id": None,
        "origin_row": None,
        "run_at": None,
        "created_at": NOON,
        "updated_at": LATER,
        "delivery": "pinterest",
        "pinterest_pin_id": None,
    }
    return {**row, **values}


def read(event: OutboxEvent) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(event.payload)
    return document


def test_the_event_of_an_undelivered_pin_has_no_further_field() -> None:
    event = build_pin_published(build_row(delivery=None, published_at=NOON))
    assert "pinterest_pin_id" not in read(event)
    assert parse_event(PinPublished, event.payload).pinterest_pin_id is None


def test_the_event_of_a_delivered_pin_has_its_id_on_pinterest() -> None:
    row = build_row(published_at=NOON, pinterest_pin_id="813744226420795884")
    event = build_pin_published(row)
    assert event.event_id == f"{row['pin_id']}:published"
    assert parse_event(PinPublished, event.payload).pinterest_pin_id == "813744226420795884"


@pytest.mark.parametrize(
    ("delivery", "event_type"),
    [(None, "pinflow.pin.published.v1"), ("pinterest", "pinflow.pin.queued.v1")],
)
def test_a_new_pin_is_announced_as_published_or_queued(
    delivery: str | None, event_type: str
) -> None:
    event = build_pin_created(build_row(delivery=delivery, published_at=NOON))
    assert event.event_type == event_type


def test_every_time_that_a_pin_becomes_queued_has_its_own_id() -> None:
    row = build_row()
    events = [build_pin_queued(row), build_pin_requeued(row)]
    assert [event.event_id.removeprefix(str(row["pin_id"])) for event in events] == [
        ":queued",
        f":queued:{LATER.isoformat()}",
    ]
    times = [parse_event(PinQueued, event.payload).queued_at for event in events]
    assert times == [event.occurred_at for event in events] == [NOON, LATER]
    assert build_change_event(PinChange.QUEUED, row) == events[1]


def test_a_deferred_pin_says_why_and_until_when() -> None:
    until = LATER + timedelta(hours=1)
    row = build_row(deliver_after=until, deferral_code="media_unreachable")
    event = parse_event(PinDeferred, build_pin_deferred(row).payload)
    assert (event.error_code, event.deferred_until, event.deferred_at) == (
        "media_unreachable",
        until,
        LATER,
    )


@pytest.mark.parametrize("is_schedule", [False, True])
def test_only_a_failed_schedule_names_its_schedule(is_schedule: bool) -> None:
    failure = {"failed_at": LATER, "error_code": "media_rejected", "error_message": "No."}
    row = build_row(run_at=NOON if is_schedule else None, **failure)
    event = parse_event(PinFailed, build_pin_failed(row).payload)
    expected = derive_schedule_id(row["pin_id"]) if is_schedule else None
    assert event.schedule_id == expected

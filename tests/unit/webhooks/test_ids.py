"""Ids of deliveries and events."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis.strategies import text, uuids

from services.webhooks.ids import compute_delivery_id, compute_event_id, compute_lowest_id
from tests.property.profiles import examples

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)


def test_a_delivery_has_the_same_id_when_its_record_is_read_again() -> None:
    webhook_id = UUID("5a0c6bd2-3c43-4f4e-9f10-0d3b1c0f7d55")
    actual = compute_delivery_id(webhook_id, "evt_1", NOON_MS)
    assert actual == compute_delivery_id(webhook_id, "evt_1", NOON_MS)
    # Must never change in a later version: receivers store it
    assert str(actual) == "01a20846-fe00-77dd-8420-efe6be463987"


def test_every_delivery_has_a_unique_id() -> None:
    webhooks, events = [uuid4() for _ in range(50)], [f"evt_{number}" for number in range(50)]
    ids = {compute_delivery_id(webhook, event, NOON_MS) for webhook in webhooks for event in events}
    assert len(ids) == 2500
    assert {(value.version, value.variant) for value in ids} == {(7, "specified in RFC 4122")}


def test_ids_sort_by_event_time() -> None:
    webhook_id = uuid4()
    ids = [
        compute_delivery_id(webhook_id, f"evt_{number}", NOON_MS + number) for number in range(1000)
    ]
    assert ids == sorted(ids)


@examples(100)
@given(webhook_id=uuids(), event_id=text())
def test_an_id_contains_the_time_of_its_event(webhook_id: UUID, event_id: str) -> None:
    actual = compute_delivery_id(webhook_id, event_id, NOON_MS)
    assert compute_lowest_id(NOON) <= actual < compute_lowest_id(NOON + timedelta(milliseconds=1))
    assert actual > compute_lowest_id(NOON - timedelta(days=7))


@pytest.mark.parametrize(
    ("record_time_ms", "nearest_ms"),
    [(-1, 0), (-(2**63), 0), (2**48, 2**48 - 1), (2**63 - 1, 2**48 - 1)],
)
def test_a_time_out_of_range_becomes_the_nearest_valid_time(
    record_time_ms: int, nearest_ms: int
) -> None:
    webhook_id = uuid4()
    actual = compute_delivery_id(webhook_id, "evt_1", record_time_ms)
    assert actual == compute_delivery_id(webhook_id, "evt_1", nearest_ms)
    assert (actual.version, actual.variant) == (7, "specified in RFC 4122")


def test_an_event_id_is_stable_and_unique() -> None:
    workspace = uuid4()
    ids = [
        compute_event_id(workspace_id, ce_id)
        for workspace_id in (workspace, UUID(int=1))
        for ce_id in (b"a:published", b"b:published")
    ]
    assert ids[0] == compute_event_id(workspace, b"a:published")
    assert len(set(ids)) == 4
    assert all(value.startswith("evt_") and value.isascii() and "." not in value for value in ids)

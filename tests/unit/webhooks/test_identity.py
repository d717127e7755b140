"""Ids of deliveries, and of events."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis.strategies import text, uuids

from services.webhooks.events import event_id_of
from services.webhooks.ids import delivery_id, lowest_id_of

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)


def test_a_delivery_has_the_same_id_when_its_record_is_read_again() -> None:
    webhook_id = UUID("5a0c6bd2-3c43-4f4e-9f10-0d3b1c0f7d55")
    made = delivery_id(webhook_id, "evt_1", NOON_MS)
    assert made == delivery_id(webhook_id, "evt_1", NOON_MS)
    # Never another one in a later version: receivers remember it
    assert str(made) == "01a20846-fe00-77dd-8420-efe6be463987"


def test_each_delivery_has_an_id_of_its_own() -> None:
    webhooks, events = [uuid4() for _ in range(50)], [f"evt_{number}" for number in range(50)]
    ids = {delivery_id(webhook, event, NOON_MS) for webhook in webhooks for event in events}
    assert len(ids) == 2500
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}


def test_ids_rise_with_the_time_of_their_events() -> None:
    webhook_id = uuid4()
    ids = [delivery_id(webhook_id, f"evt_{number}", NOON_MS + number) for number in range(1000)]
    assert ids == sorted(ids)


@given(webhook_id=uuids(), event_id=text())
def test_an_id_tells_when_its_event_was_announced(webhook_id: UUID, event_id: str) -> None:
    made = delivery_id(webhook_id, event_id, NOON_MS)
    assert lowest_id_of(NOON) <= made < lowest_id_of(NOON + timedelta(milliseconds=1))
    assert made > lowest_id_of(NOON - timedelta(days=7))


@pytest.mark.parametrize(
    ("announced_ms", "taken_for"),
    [(-1, 0), (-(2**63), 0), (2**48, 2**48 - 1), (2**63 - 1, 2**48 - 1)],
)
def test_a_time_that_no_id_can_carry_is_taken_for_the_nearest(
    announced_ms: int, taken_for: int
) -> None:
    webhook_id = uuid4()
    made = delivery_id(webhook_id, "evt_1", announced_ms)
    assert made == delivery_id(webhook_id, "evt_1", taken_for)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")


def test_an_events_id_is_the_same_again_and_nobody_elses() -> None:
    workspace = uuid4()
    ids = [
        event_id_of(one, ce_id)
        for one in (workspace, UUID(int=1))
        for ce_id in (b"a:published", b"b:published")
    ]
    assert ids[0] == event_id_of(workspace, b"a:published")
    assert len(set(ids)) == 4
    assert all(one.startswith("evt_") and one.isascii() and "." not in one for one in ids)

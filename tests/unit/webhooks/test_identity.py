"""Ids of deliveries, and of events."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID, uuid4

from services.webhooks.identity import delivery_ids, lowest_id_of
from services.webhooks.payloads import event_id_of

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_ids_rise_although_the_clock_stands_still_or_goes_back() -> None:
    times = iter([NOON.timestamp()] * 5000 + [NOON.timestamp() - 60] * 5000 + [NOON.timestamp() + 60] * 10)
    ids = list(islice(delivery_ids(lambda: next(times)), 10_010))
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}


def test_an_id_tells_when_it_was_made() -> None:
    made = next(delivery_ids(NOON.timestamp))
    assert lowest_id_of(NOON) <= made < lowest_id_of(NOON + timedelta(milliseconds=1))
    assert made > lowest_id_of(NOON - timedelta(days=7))


def test_an_events_id_is_the_same_again_and_nobody_elses() -> None:
    workspace = uuid4()
    ids = [event_id_of(one, ce_id) for one in (workspace, UUID(int=1)) for ce_id in (b"a:published", b"b:published")]
    assert ids[0] == event_id_of(workspace, b"a:published")
    assert len(set(ids)) == 4
    assert all(one.startswith("evt_") and one.isascii() and "." not in one for one in ids)

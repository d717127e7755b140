"""Who may have how many requests at once."""

from uuid import uuid4

from services.webhooks.repository import Room
from services.webhooks.slots import Slots


def test_what_is_under_way_takes_room_until_it_is_given_back() -> None:
    slots, one, other = Slots(5, 3), uuid4(), uuid4()
    for webhook_id in (one, one, other):
        slots.take(webhook_id)
    assert slots.free == 2
    assert sorted(slots.rooms()) == sorted([Room(one, 2, 1), Room(other, 1, 2)])
    for webhook_id in (one, one, other):
        slots.give_back(webhook_id, failed=False)
    assert (slots.free, slots.rooms()) == (5, [])


def test_who_fails_has_one_at_a_time_until_it_succeeds() -> None:
    slots, webhook_id = Slots(5, 3), uuid4()
    slots.take(webhook_id)
    slots.give_back(webhook_id, failed=True)
    assert slots.rooms() == [Room(webhook_id, 0, 1)]
    slots.take(webhook_id)
    assert slots.rooms() == [Room(webhook_id, 1, 0)]
    slots.give_back(webhook_id, failed=False)
    assert slots.rooms() == []

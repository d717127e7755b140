"""Who may have how many requests at once."""

from uuid import uuid4

from services.webhooks.delivery.concurrency import Slots
from services.webhooks.delivery.repository import Busy, Due, Room


def due(*, failing: bool = False) -> Due:
    return Due(
        uuid4(),
        uuid4(),
        "evt_1",
        "pin.published",
        "{}",
        0,
        "https://hooks.example/",
        "s" * 16,
        uuid4(),
        failing,
    )


def test_what_is_under_way_takes_room_until_it_is_given_back() -> None:
    slots, one, other = Slots(5, each=3, each_workspace=4, failing=2), due(), due()
    for each in (one, one, other):
        slots.take(each)
    assert slots.room == Room(2, 2, 3, 4)
    assert sorted(slots.busy) == sorted(
        [Busy(one.webhook_id, one.workspace_id, 2), Busy(other.webhook_id, other.workspace_id, 1)]
    )
    for each in (one, one, other):
        slots.give_back(each)
    assert (slots.room, slots.busy) == (Room(5, 2, 3, 4), [])


def test_those_that_fail_share_what_is_theirs() -> None:
    slots, failing = Slots(5, each=3, each_workspace=4, failing=2), due(failing=True)
    slots.take(failing)
    slots.take(due())
    assert slots.room == Room(3, 1, 3, 4)
    slots.give_back(failing)
    assert slots.room == Room(4, 2, 3, 4)

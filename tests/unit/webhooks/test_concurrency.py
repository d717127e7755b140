"""Limits on how many requests a webhook, a workspace and all that fail have at once."""

from uuid import uuid4

from services.webhooks.delivery.concurrency import ConcurrencyLimits
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


def test_a_request_takes_room_until_it_is_released() -> None:
    limits, one, other = ConcurrencyLimits(5, each=3, each_workspace=4, failing=2), due(), due()
    for each in (one, one, other):
        limits.acquire(each)
    assert limits.room == Room(2, 2, 3, 4)
    assert sorted(limits.busy) == sorted(
        [Busy(one.webhook_id, one.workspace_id, 2), Busy(other.webhook_id, other.workspace_id, 1)]
    )
    for each in (one, one, other):
        limits.release(each)
    assert (limits.room, limits.busy) == (Room(5, 2, 3, 4), [])


def test_those_that_fail_share_what_is_theirs() -> None:
    limits, failing = ConcurrencyLimits(5, each=3, each_workspace=4, failing=2), due(failing=True)
    limits.acquire(failing)
    limits.acquire(due())
    assert limits.room == Room(3, 1, 3, 4)
    limits.release(failing)
    assert limits.room == Room(4, 2, 3, 4)

"""Limits on how many requests a webhook, a workspace and all that fail have at once."""

from uuid import uuid4

from services.webhooks.delivery.concurrency import ConcurrencyLimits
from services.webhooks.delivery.model import Capacity, ClaimedDelivery, InFlight


def claimed(*, failing: bool = False) -> ClaimedDelivery:
    return ClaimedDelivery(
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


def test_a_request_takes_capacity_until_it_is_released() -> None:
    limits, one, other = (
        ConcurrencyLimits(5, each=3, each_workspace=4, failing=2),
        claimed(),
        claimed(),
    )
    for each in (one, one, other):
        limits.acquire(each)
    assert limits.capacity == Capacity(2, 2, 3, 4)
    assert sorted(limits.in_flight) == sorted(
        [
            InFlight(one.webhook_id, one.workspace_id, 2),
            InFlight(other.webhook_id, other.workspace_id, 1),
        ]
    )
    for each in (one, one, other):
        limits.release(each)
    assert (limits.capacity, limits.in_flight) == (Capacity(5, 2, 3, 4), [])


def test_those_that_fail_share_what_is_theirs() -> None:
    limits, failing = (
        ConcurrencyLimits(5, each=3, each_workspace=4, failing=2),
        claimed(failing=True),
    )
    limits.acquire(failing)
    limits.acquire(claimed())
    assert limits.capacity == Capacity(3, 1, 3, 4)
    limits.release(failing)
    assert limits.capacity == Capacity(4, 2, 3, 4)

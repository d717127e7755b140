"""Limits on concurrent requests per webhook, per workspace and to failing webhooks."""

from uuid import uuid4

from services.webhooks.delivery.in_flight import InFlightCounts
from services.webhooks.delivery.model import Capacity, ClaimedDelivery, InFlight


def claimed(*, is_failing: bool = False) -> ClaimedDelivery:
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
        is_failing,
    )


def test_a_request_takes_capacity_until_it_is_removed() -> None:
    counts = InFlightCounts(5, per_webhook=3, per_workspace=4, failing_limit=2)
    first, second = claimed(), claimed()
    for delivery in (first, first, second):
        counts.add(delivery)
    assert counts.capacity == Capacity(2, 2, 3, 4)
    assert sorted(counts.by_webhook) == sorted(
        [
            InFlight(first.webhook_id, first.workspace_id, 2),
            InFlight(second.webhook_id, second.workspace_id, 1),
        ]
    )
    for delivery in (first, first, second):
        counts.remove(delivery)
    assert (counts.capacity, counts.by_webhook) == (Capacity(5, 2, 3, 4), [])


def test_failing_webhooks_share_their_limit() -> None:
    counts = InFlightCounts(5, per_webhook=3, per_workspace=4, failing_limit=2)
    failing = claimed(is_failing=True)
    counts.add(failing)
    counts.add(claimed())
    assert counts.capacity == Capacity(3, 1, 3, 4)
    counts.remove(failing)
    assert counts.capacity == Capacity(4, 2, 3, 4)

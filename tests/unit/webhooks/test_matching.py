"""Events become deliveries for the subscriptions that want them."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.webhooks.delivery.matching import MAX_CLOCK_DIFFERENCE, make_deliveries
from services.webhooks.delivery.model import EnabledWebhook
from services.webhooks.events import EventName, WebhookEvent
from services.webhooks.ids import delivery_id
from tests.support.factories import NOON

OURS, THEIRS = uuid4(), uuid4()
NOON_MS = int(NOON.timestamp() * 1000)


def event(event_id: str = "evt_1", **fields: Any) -> WebhookEvent:
    values = {"workspace_id": OURS, "name": EventName.PIN_PUBLISHED, "announced_ms": NOON_MS}
    return WebhookEvent(event_id=event_id, body="{}", **{**values, **fields})


def subscription(*events: str, created_at: datetime = NOON) -> EnabledWebhook:
    return EnabledWebhook(uuid4(), frozenset(events or ("pin.published",)), created_at)


def test_every_subscription_of_the_workspace_gets_a_delivery_with_an_id_of_its_own() -> None:
    first, second, foreign = (subscription() for _ in range(3))
    made = make_deliveries([event()], {OURS: [first, second], THEIRS: [foreign]})
    assert [(one.webhook_id, one.delivery_id) for one in made] == [
        (one.webhook_id, delivery_id(one.webhook_id, "evt_1", NOON_MS)) for one in (first, second)
    ]


def test_a_subscription_gets_only_the_events_that_it_names() -> None:
    failures = subscription("pin.failed")
    events = [event("evt_1"), event("evt_2", name=EventName.PIN_FAILED)]
    assert [one.event_id for one in make_deliveries(events, {OURS: [failures]})] == ["evt_2"]


def test_a_subscription_gets_no_event_from_long_before_it_was_made() -> None:
    limit = subscription(created_at=NOON + MAX_CLOCK_DIFFERENCE)
    later = subscription(created_at=NOON + MAX_CLOCK_DIFFERENCE + timedelta(milliseconds=1))
    made = make_deliveries([event()], {OURS: [limit, later]})
    assert [one.webhook_id for one in made] == [limit.webhook_id]


def test_of_an_event_that_is_announced_twice_the_first_announcement_counts() -> None:
    wanting = subscription()
    (made,) = make_deliveries([event(), event(announced_ms=NOON_MS + 1)], {OURS: [wanting]})
    assert made.delivery_id == delivery_id(wanting.webhook_id, "evt_1", NOON_MS)


def test_an_event_of_a_workspace_without_subscriptions_becomes_nothing() -> None:
    assert make_deliveries([event(workspace_id=UUID(int=1))], {OURS: [subscription()]}) == []

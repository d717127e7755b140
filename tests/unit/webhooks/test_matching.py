"""Events become deliveries for subscribed webhooks."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.webhooks.delivery.matching import MAX_CLOCK_DIFFERENCE, build_deliveries
from services.webhooks.delivery.model import EnabledWebhook
from services.webhooks.ids import compute_delivery_id
from services.webhooks.payloads import EventName, WebhookEvent
from tests.support.factories import NOON

OURS, THEIRS = uuid4(), uuid4()
NOON_MS = int(NOON.timestamp() * 1000)


def event(event_id: str = "evt_1", **fields: Any) -> WebhookEvent:
    values = {
        "workspace_id": OURS,
        "event_name": EventName.PIN_PUBLISHED,
        "record_time_ms": NOON_MS,
    }
    return WebhookEvent(event_id=event_id, body="{}", **{**values, **fields})


def enabled_webhook(*events: str, created_at: datetime = NOON) -> EnabledWebhook:
    return EnabledWebhook(uuid4(), frozenset(events or ("pin.published",)), created_at)


def test_every_webhook_of_the_workspace_gets_a_delivery_with_a_unique_id() -> None:
    first, second, foreign = (enabled_webhook() for _ in range(3))
    deliveries = build_deliveries([event()], {OURS: [first, second], THEIRS: [foreign]})
    assert [(delivery.webhook_id, delivery.delivery_id) for delivery in deliveries] == [
        (webhook.webhook_id, compute_delivery_id(webhook.webhook_id, "evt_1", NOON_MS))
        for webhook in (first, second)
    ]


def test_a_webhook_gets_only_the_events_that_it_names() -> None:
    failures = enabled_webhook("pin.failed")
    events = [event("evt_1"), event("evt_2", event_name=EventName.PIN_FAILED)]
    assert [delivery.event_id for delivery in build_deliveries(events, {OURS: [failures]})] == [
        "evt_2"
    ]


def test_a_webhook_gets_no_event_from_long_before_its_creation() -> None:
    limit = enabled_webhook(created_at=NOON + MAX_CLOCK_DIFFERENCE)
    later = enabled_webhook(created_at=NOON + MAX_CLOCK_DIFFERENCE + timedelta(milliseconds=1))
    deliveries = build_deliveries([event()], {OURS: [limit, later]})
    assert [delivery.webhook_id for delivery in deliveries] == [limit.webhook_id]


def test_the_first_announcement_of_an_event_counts() -> None:
    subscribed = enabled_webhook()
    (delivery,) = build_deliveries(
        [event(), event(record_time_ms=NOON_MS + 1)], {OURS: [subscribed]}
    )
    assert delivery.delivery_id == compute_delivery_id(subscribed.webhook_id, "evt_1", NOON_MS)


def test_an_event_of_a_workspace_without_webhooks_causes_no_delivery() -> None:
    assert build_deliveries([event(workspace_id=UUID(int=1))], {OURS: [enabled_webhook()]}) == []

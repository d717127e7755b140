"""Matches events with subscriptions, and makes the deliveries."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from services.webhooks.delivery.model import NewDelivery, Subscription
from services.webhooks.events import WebhookEvent
from services.webhooks.ids import delivery_id

MAX_CLOCK_DIFFERENCE = timedelta(minutes=5)
"""Between Kafka's clock and Postgres', for the age of an event."""


def make_deliveries(
    events: Iterable[WebhookEvent], subscriptions: Mapping[UUID, Sequence[Subscription]]
) -> list[NewDelivery]:
    """Makes a delivery of each event for each subscription of its workspace that wants it.

    `subscriptions` are by workspace.
    """
    # A replay may find two announcements of an event in one batch: the first one's id counts
    deliveries: dict[tuple[UUID, str], NewDelivery] = {}
    for event in events:
        for subscription in subscriptions.get(event.workspace_id, ()):
            if _wants(subscription, event):
                key = subscription.webhook_id, event.event_id
                deliveries.setdefault(key, _delivery(subscription.webhook_id, event))
    return list(deliveries.values())


def _wants(subscription: Subscription, event: WebhookEvent) -> bool:
    """Tells whether the event is of a wanted type, and not older than the webhook.

    While the service is behind, or reads the topics for the first time, a new webhook would get a
    week of events.
    """
    oldest = subscription.created_at - MAX_CLOCK_DIFFERENCE
    return event.name in subscription.events and event.announced_ms / 1000 >= oldest.timestamp()


def _delivery(webhook_id: UUID, event: WebhookEvent) -> NewDelivery:
    return NewDelivery(
        webhook_id,
        delivery_id(webhook_id, event.event_id, event.announced_ms),
        event.event_id,
        event.name,
        event.body,
    )

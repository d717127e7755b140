"""Matches events with webhooks, and makes the deliveries."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from services.webhooks.delivery.model import EnabledWebhook, NewDelivery
from services.webhooks.events import WebhookEvent
from services.webhooks.ids import delivery_id

MAX_CLOCK_DIFFERENCE = timedelta(minutes=5)
"""Largest difference allowed between Kafka's and Postgres' clocks."""


def make_deliveries(
    events: Iterable[WebhookEvent], webhooks: Mapping[UUID, Sequence[EnabledWebhook]]
) -> list[NewDelivery]:
    """Makes a delivery of each event for each webhook of its workspace that wants it.

    `webhooks` are by workspace.
    """
    # A replay may find two announcements of an event in one batch: the first one's id counts
    deliveries: dict[tuple[UUID, str], NewDelivery] = {}
    for event in events:
        for webhook in webhooks.get(event.workspace_id, ()):
            if _wants(webhook, event):
                key = webhook.webhook_id, event.event_id
                deliveries.setdefault(key, _delivery(webhook.webhook_id, event))
    return list(deliveries.values())


def _wants(webhook: EnabledWebhook, event: WebhookEvent) -> bool:
    """Tells whether the event is of a wanted type, and not older than the webhook.

    Otherwise a new webhook would get a week of old events when the service is behind or reads the
    topics for the first time.
    """
    return (
        event.name in webhook.events
        and event.announced_ms / 1000 >= (webhook.created_at - MAX_CLOCK_DIFFERENCE).timestamp()
    )


def _delivery(webhook_id: UUID, event: WebhookEvent) -> NewDelivery:
    return NewDelivery(
        webhook_id,
        delivery_id(webhook_id, event.event_id, event.announced_ms),
        event.event_id,
        event.name,
        event.body,
    )

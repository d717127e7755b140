"""Matches events to webhooks and builds their deliveries."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from services.webhooks.delivery.model import EnabledWebhook, NewDelivery
from services.webhooks.ids import compute_delivery_id
from services.webhooks.payloads import WebhookEvent

MAX_CLOCK_DIFFERENCE = timedelta(minutes=5)
"""Maximum tolerated clock skew between Postgres and the services that produce events."""


def build_deliveries(
    events: Iterable[WebhookEvent], webhooks: Mapping[UUID, Sequence[EnabledWebhook]]
) -> list[NewDelivery]:
    """Builds a delivery of each event for each subscribed webhook of its workspace.

    `webhooks` maps workspaces to their webhooks.
    """
    # A replay may contain two announcements of one event in a batch: the first one's id counts
    deliveries: dict[tuple[UUID, str], NewDelivery] = {}
    for event in events:
        for webhook in webhooks.get(event.workspace_id, ()):
            if _is_subscribed(webhook, event):
                key = webhook.webhook_id, event.event_id
                deliveries.setdefault(key, _build_delivery(webhook.webhook_id, event))
    return list(deliveries.values())


def _is_subscribed(webhook: EnabledWebhook, event: WebhookEvent) -> bool:
    """Returns whether the webhook names the event, and the event is not older than the webhook.

    The second check tolerates MAX_CLOCK_DIFFERENCE. Without that check, a new webhook would get a
    week of old events if the service lags or reads the topics for the first time.
    """
    return (
        event.event_name in webhook.event_names
        and event.record_time_ms / 1000 >= (webhook.created_at - MAX_CLOCK_DIFFERENCE).timestamp()
    )


def _build_delivery(webhook_id: UUID, event: WebhookEvent) -> NewDelivery:
    return NewDelivery(
        webhook_id,
        compute_delivery_id(webhook_id, event.event_id, event.record_time_ms),
        event.event_id,
        event.event_name,
        event.body,
    )

"""Defines the value types of deliveries, which rules, SQL and the worker share."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class DisabledReason(StrEnum):
    GONE = "gone"
    """The receiver answered 410."""
    FAILING = "failing"
    """Too many deliveries in a row were given up, or too many attempts failed without one that
    succeeded.
    """


class EnabledWebhook(NamedTuple):
    """Holds an enabled webhook's events, and when it was made."""

    webhook_id: UUID
    events: frozenset[str]
    created_at: datetime


class NewDelivery(NamedTuple):
    """Holds what is stored of an event for one webhook."""

    webhook_id: UUID
    delivery_id: UUID
    event_id: str
    event_type: str
    body: str


class ClaimedDelivery(NamedTuple):
    """Holds a delivery that only this worker attempts until its lease has passed."""

    webhook_id: UUID
    delivery_id: UUID
    event_id: str
    event_type: str
    body: str
    tries: int
    """Attempts that failed since the delivery was made or last resent."""
    url: str
    secret: str
    workspace_id: UUID
    failing: bool
    """Nothing was delivered to the webhook since an attempt failed."""


class InFlight(NamedTuple):
    """Counts a webhook's requests in flight; at least one."""

    webhook_id: UUID
    workspace_id: UUID
    requests: int


class Capacity(NamedTuple):
    """Limits a claim: how many requests may begin, and how many may be in flight."""

    free: int
    """Requests that may begin, to all webhooks."""
    free_failing: int
    """The part of `free` that may go to webhooks that fail."""
    per_webhook: int
    """In flight to one webhook. One that fails has one at a time."""
    per_workspace: int
    """In flight to all webhooks of one workspace."""


class AttemptResult(NamedTuple):
    """Holds what is stored of one attempt."""

    webhook_id: UUID
    delivery_id: UUID
    tries: int
    """As claimed. A failure counts only while the stored value is still this one."""
    status: DeliveryStatus
    pause_ms: int
    """Until the next attempt, if the status is pending."""
    status_code: int | None
    error: str | None
    gone: bool


class DisabledWebhook(NamedTuple):
    """Names a webhook that was just disabled, and why."""

    webhook_id: UUID
    workspace_id: UUID
    reason: DisabledReason

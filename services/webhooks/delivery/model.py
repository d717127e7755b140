"""Value types of deliveries, shared by rules, SQL and the delivery worker."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID


class DeliveryStatus(StrEnum):
    """The state of a delivery.

    - `pending`: an attempt follows.
    - `delivered`: the receiver accepted it.
    - `failed`: no attempt follows. It can be sent again.
    """

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class DisabledReason(StrEnum):
    """The reason why Pinflow disabled a webhook.

    - `gone`: the receiver answered 410.
    - `failing`: too many consecutive deliveries or attempts failed.
    """

    GONE = "gone"
    FAILING = "failing"


class EnabledWebhook(NamedTuple):
    """Holds an enabled webhook's event names and creation time."""

    webhook_id: UUID
    event_names: frozenset[str]
    created_at: datetime


class NewDelivery(NamedTuple):
    """Holds the columns of a new delivery: one event for one webhook."""

    webhook_id: UUID
    delivery_id: UUID
    event_id: str
    event_name: str
    body: str


class ClaimedDelivery(NamedTuple):
    """Holds a delivery that only this worker attempts until its claim expires."""

    webhook_id: UUID
    delivery_id: UUID
    event_id: str
    event_name: str
    body: str
    tries: int
    """Attempts since the delivery was created or last resent."""
    url: str
    secret: str
    workspace_id: UUID
    is_failing: bool
    """The webhook's latest attempt failed."""


class InFlight(NamedTuple):
    """Counts a webhook's requests in flight: at least one."""

    webhook_id: UUID
    workspace_id: UUID
    requests: int


class Capacity(NamedTuple):
    """Limits a claim: how many requests may begin, and how many may be in flight."""

    free: int
    """Requests that may begin, to all webhooks."""
    free_failing: int
    """The part of `free` that may go to failing webhooks."""
    per_webhook: int
    """Requests in flight to one webhook. A failing webhook has at most one."""
    per_workspace: int
    """Requests in flight to all webhooks of one workspace."""


class ReceiverResponse(NamedTuple):
    """Holds a receiver's status code, and the reason why the attempt failed."""

    status_code: int | None
    """None if no response arrived."""
    error: str | None
    """None if the receiver accepted the delivery."""


class AttemptResult(NamedTuple):
    """Holds the values of one attempt that are stored."""

    webhook_id: UUID
    delivery_id: UUID
    tries: int
    """The value at the claim. A failure is recorded only if the stored value is still the same."""
    status: DeliveryStatus
    pause_ms: int
    """Milliseconds until the next attempt, if the status is pending."""
    status_code: int | None
    error: str | None
    is_gone: bool


class DisabledWebhook(NamedTuple):
    """Names a webhook that was just disabled, and why."""

    webhook_id: UUID
    workspace_id: UUID
    reason: DisabledReason

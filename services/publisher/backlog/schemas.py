"""HTTP models of the backlog of deliveries."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from services.publisher.backlog.estimate import Bucket
from services.publisher.backlog.service import AccountBacklog
from shared.http.fields import AccountId
from shared.http.models import ApiModel
from shared.http.rate_meter import RateMeterNode


class DeliveryPauseResponse(ApiModel):
    """The reason why no pin of the account is sent now."""

    code: str
    """The error code, which the deferred pins have too: docs/reference/errors.md lists the codes.
    Pins that wait because Pinterest's limit is used up stay queued."""
    message: str
    """The reason in words, and what to do. If all accounts wait, "The app is paused" is in it. If
    the account is paused, too, its own reason and code go first."""
    until: datetime | None
    """When Pinflow tries again, in UTC: when the longest pause ends. Null if somebody has to do
    something first."""


class DeliveryResponse(ApiModel):
    """The pins of a connected account that wait for their delivery to Pinterest."""

    account_id: AccountId
    queued_count: int
    """Pins that wait: those that are `queued` or `deferred`."""
    publishing_count: int
    """Pins that are being sent, or whose answer was lost."""
    oldest_queued_at: datetime | None
    """When the oldest waiting pin was created or became due, in UTC. Null if none waits."""
    pause: DeliveryPauseResponse | None
    """The pause of the account or of the app. Null if pins are being sent."""
    estimated_end: datetime | None
    """When all pins that wait or are being sent will be delivered, in UTC, at the present speed and
    within the limits. If the answer to a pin was lost, not before Pinflow knows whether Pinterest
    has it. Null if there are none, if somebody has to end the pause, or if it would take more than
    100 years."""

    @classmethod
    def from_backlog(cls, backlog: AccountBacklog) -> "DeliveryResponse":
        pause = backlog.pause
        paused = None if pause is None else DeliveryPauseResponse(**pause._asdict())
        return cls(**{**backlog._asdict(), "pause": paused})


class BudgetRequest(ApiModel):
    """An account. The caller has checked that the API key may use it."""

    workspace_id: UUID
    account_id: UUID


class BudgetResponse(ApiModel):
    """Shows what is left of the limits at Pinterest. Both are null if it was never connected."""

    account: RateMeterNode | None = None
    global_: Annotated[RateMeterNode | None, Field(serialization_alias="global")] = None

    @classmethod
    def from_buckets(cls, account: Bucket, app: Bucket) -> "BudgetResponse":
        return cls(account=_describe_bucket(account), global_=_describe_bucket(app))


def _describe_bucket(bucket: Bucket) -> RateMeterNode:
    return RateMeterNode(
        tokens_available=bucket.level, capacity=bucket.capacity, refill_rate=bucket.per_second
    )

"""Decides what follows an attempt: success, a retry, or giving up."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, TypeAlias, assert_never

from services.webhooks.delivery.model import (
    AttemptResult,
    ClaimedDelivery,
    DeliveryStatus,
    ReceiverResponse,
)


class DeliverySucceeded(NamedTuple):
    response: ReceiverResponse


class RetryScheduled(NamedTuple):
    response: ReceiverResponse
    pause_seconds: float


class DeliveryFailed(NamedTuple):
    response: ReceiverResponse
    is_gone: bool
    """The receiver answered 410: it never wants another delivery."""


SendOutcome: TypeAlias = DeliverySucceeded | RetryScheduled | DeliveryFailed


@dataclass(frozen=True)
class RetryPolicy:
    max_attempts: int
    first_pause_seconds: float
    factor: float
    max_pause_seconds: float

    def compute_pause(self, tries: int, jitter: float) -> float:
        """Returns the seconds until the next attempt, after this number of tries.

        `jitter`: a random factor from 0 to 1 ("full jitter"). It spreads retries of deliveries that
        failed at the same time.
        """
        backoff = self.first_pause_seconds * self.factor ** (tries - 1)
        return jitter * min(self.max_pause_seconds, backoff)

    @property
    def max_total_pause_seconds(self) -> float:
        """The sum of the maximum pauses of one delivery."""
        return sum(self.compute_pause(number, 1) for number in range(1, self.max_attempts))


class DisablePolicy(NamedTuple):
    """Disables a webhook after too many consecutive failures.

    The webhook is disabled after `max_failed_deliveries`, or after `max_failed_attempts` over at
    least `min_failing_seconds`. The second limit is for a receiver that hangs and has a backlog:
    each attempt is for a different delivery, so none of the deliveries fails soon.
    """

    max_failed_deliveries: int
    max_failed_attempts: int
    min_failing_seconds: float

    @classmethod
    def from_retry_policy(cls, max_failed_deliveries: int, policy: RetryPolicy) -> "DisablePolicy":
        """Derives the limit of attempts from the limit of deliveries.

        It is the number of attempts of that many deliveries, over the sum of one delivery's
        maximum pauses.
        """
        return cls(
            max_failed_deliveries,
            max_failed_deliveries * policy.max_attempts,
            policy.max_total_pause_seconds,
        )


def decide(
    response: ReceiverResponse,
    tries: int,
    policy: RetryPolicy,
    draw_jitter: Callable[[], float],
) -> SendOutcome:
    """Decides what follows a response. `tries` excludes this attempt."""
    if response.error is None:
        return DeliverySucceeded(response)
    if response.status_code == HTTPStatus.GONE:
        return DeliveryFailed(response, is_gone=True)
    if tries + 1 >= policy.max_attempts:
        return DeliveryFailed(response, is_gone=False)
    return RetryScheduled(response, policy.compute_pause(tries + 1, draw_jitter()))


def build_attempt_result(delivery: ClaimedDelivery, outcome: SendOutcome) -> AttemptResult:
    """Builds the values of an attempt that are stored."""
    status, pause_seconds, is_gone = _resolve_status(outcome)
    return AttemptResult(
        delivery.webhook_id,
        delivery.delivery_id,
        delivery.tries,
        status,
        int(pause_seconds * 1000),
        outcome.response.status_code,
        outcome.response.error,
        is_gone,
    )


def _resolve_status(outcome: SendOutcome) -> tuple[DeliveryStatus, float, bool]:
    match outcome:
        case DeliverySucceeded():
            return DeliveryStatus.DELIVERED, 0.0, False
        case RetryScheduled(pause_seconds=pause_seconds):
            return DeliveryStatus.PENDING, pause_seconds, False
        case DeliveryFailed(is_gone=is_gone):
            return DeliveryStatus.FAILED, 0.0, is_gone
    assert_never(outcome)

"""The policies for retries and for disabling a failing webhook."""

import pytest

from services.webhooks.delivery.model import ReceiverResponse
from services.webhooks.delivery.policy import (
    DeliveryFailed,
    DeliverySucceeded,
    DisablePolicy,
    RetryPolicy,
    RetryScheduled,
    decide,
)

POLICY = RetryPolicy(max_attempts=4, first_pause_seconds=5, factor=3, max_pause_seconds=40)
FAILURE = ReceiverResponse(500, "answered 500")


def no_jitter() -> float:
    return 1.0


def test_a_response_without_an_error_is_a_success() -> None:
    assert decide(ReceiverResponse(204, None), 3, POLICY, no_jitter) == DeliverySucceeded(
        ReceiverResponse(204, None)
    )


def test_pauses_grow_by_the_factor_up_to_the_maximum() -> None:
    pauses = [decide(FAILURE, tries, POLICY, no_jitter) for tries in range(3)]
    assert pauses == [
        RetryScheduled(FAILURE, 5),
        RetryScheduled(FAILURE, 15),
        RetryScheduled(FAILURE, 40),
    ]


def test_a_pause_is_a_random_part_of_its_maximum() -> None:
    assert decide(FAILURE, 1, POLICY, lambda: 0.25) == RetryScheduled(FAILURE, 3.75)


def test_the_delivery_fails_after_the_last_attempt() -> None:
    assert decide(FAILURE, 3, POLICY, no_jitter) == DeliveryFailed(FAILURE, is_gone=False)


@pytest.mark.parametrize("tries", [0, 3])
def test_the_delivery_fails_at_once_on_410_gone(tries: int) -> None:
    response = ReceiverResponse(410, "answered 410 Gone")
    assert decide(response, tries, POLICY, no_jitter) == DeliveryFailed(response, is_gone=True)


def test_the_disable_policy_allows_all_attempts_of_its_deliveries() -> None:
    assert DisablePolicy.from_retry_policy(5, POLICY) == DisablePolicy(
        max_failed_deliveries=5, max_failed_attempts=20, min_failing_seconds=5 + 15 + 40
    )

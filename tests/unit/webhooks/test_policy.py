"""Attempts end in what the policies say; so does a webhook that fails."""

import pytest

from services.webhooks.delivery.policy import (
    Answer,
    Delivered,
    DisablePolicy,
    GivenUp,
    Retry,
    RetryPolicy,
    decide,
)

POLICY = RetryPolicy(attempts=4, first_seconds=5, factor=3, longest_seconds=40)
REFUSED = Answer(500, "answered 500")


def whole() -> float:
    return 1.0


def test_an_answer_without_an_error_is_a_delivery() -> None:
    assert decide(Answer(204, None), 3, POLICY, whole) == Delivered(Answer(204, None))


def test_pauses_grow_by_the_factor_up_to_the_longest() -> None:
    pauses = [decide(REFUSED, tries, POLICY, whole) for tries in range(3)]
    assert pauses == [Retry(REFUSED, 5), Retry(REFUSED, 15), Retry(REFUSED, 40)]


def test_a_pause_is_a_random_part() -> None:
    assert decide(REFUSED, 1, POLICY, lambda: 0.25) == Retry(REFUSED, 3.75)


def test_the_last_attempt_gives_up() -> None:
    assert decide(REFUSED, 3, POLICY, whole) == GivenUp(REFUSED, gone=False)


@pytest.mark.parametrize("tries", [0, 3])
def test_gone_gives_up_at_once(tries: int) -> None:
    answer = Answer(410, "answered 410 Gone")
    assert decide(answer, tries, POLICY, whole) == GivenUp(answer, gone=True)


def test_the_limit_is_as_many_attempts_as_the_deliveries_have_and_as_long_as_one_may_take() -> None:
    assert DisablePolicy.of(5, POLICY) == DisablePolicy(
        deliveries=5, attempts=20, seconds=5 + 15 + 40
    )

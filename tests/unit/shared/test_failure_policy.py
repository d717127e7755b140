"""The decisions after a failed batch, without a broker."""

import pytest

from shared.contract.errors import DatabaseUnavailable, ErrorCode, Overloaded, PositionBehind
from shared.kafka.failure_policy import (
    MAX_BACKOFF_SECONDS,
    FailurePolicy,
    Halt,
    PoisonLimitExceeded,
    ReadPositionsAgain,
    RetryUnavailable,
    RetryUnexpected,
    WaitForCapacity,
)


@pytest.fixture
def policy() -> FailurePolicy:
    return FailurePolicy(poison_limit=5)


def overloaded(retry_after: int = 1) -> Overloaded:
    return Overloaded(ErrorCode.OVERLOADED, "full", retry_after=retry_after)


def test_the_backoff_for_an_unavailable_server_doubles_up_to_its_limit(
    policy: FailurePolicy,
) -> None:
    decisions = [policy.fail(DatabaseUnavailable("down")) for _ in range(8)]
    assert decisions == [
        RetryUnavailable(seconds, attempt)
        for attempt, seconds in enumerate([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, MAX_BACKOFF_SECONDS])
    ]


def test_invariant_9_the_backoff_survives_an_outage_of_many_hours(policy: FailurePolicy) -> None:
    """2**1024 is too large for a float: computing the backoff would raise OverflowError."""
    decisions = [policy.fail(DatabaseUnavailable("down")) for _ in range(1100)]
    assert decisions[-1] == RetryUnavailable(MAX_BACKOFF_SECONDS, 1099)


def test_a_bug_is_retried_as_an_unexpected_error(policy: FailurePolicy) -> None:
    assert policy.fail(RuntimeError("a bug")) == RetryUnexpected(0.1, 0)


def test_positions_are_read_again_after_an_older_postgres_is_noticed(policy: FailurePolicy) -> None:
    assert policy.fail(PositionBehind("older")) == ReadPositionsAgain("older")
    assert policy.fail(DatabaseUnavailable("down")) == RetryUnavailable(0.1, 0)


def test_waiting_for_capacity_is_no_failure_and_is_reported_once(policy: FailurePolicy) -> None:
    policy.fail(DatabaseUnavailable("down"))
    assert policy.fail(overloaded()) == WaitForCapacity(1, is_first=True)
    assert policy.fail(overloaded(60)) == WaitForCapacity(5, is_first=False)
    assert not policy.is_retrying
    policy.succeed()
    assert policy.fail(overloaded()) == WaitForCapacity(1, is_first=True)


def test_a_consumer_is_retrying_from_the_second_failure_until_a_success(
    policy: FailurePolicy,
) -> None:
    policy.fail(DatabaseUnavailable("down"))
    assert not policy.is_retrying
    policy.fail(DatabaseUnavailable("down"))
    assert policy.is_retrying
    policy.succeed()
    assert not policy.is_retrying


def test_a_batch_with_one_good_record_resets_the_poison_count(policy: FailurePolicy) -> None:
    policy.accept(policy.check_poison(records=4, poison=4))
    policy.accept(policy.check_poison(records=3, poison=2))
    assert policy.check_poison(records=5, poison=5) == 5


def test_more_poison_than_the_limit_halts_across_batches(
    policy: FailurePolicy,
) -> None:
    policy.accept(policy.check_poison(records=3, poison=3))
    with pytest.raises(PoisonLimitExceeded, match="6 consecutive records") as raised:
        policy.check_poison(records=3, poison=3)
    assert policy.fail(raised.value) == Halt(0.1)
    assert policy.is_halted


def test_a_retried_batch_counts_its_poison_once(policy: FailurePolicy) -> None:
    for _ in range(3):
        assert policy.check_poison(records=4, poison=4) == 4


def test_skipping_records_forgets_their_failures(policy: FailurePolicy) -> None:
    for _ in range(3):
        policy.fail(PoisonLimitExceeded("6 consecutive records are poison"))
    policy.forget()
    assert not policy.is_halted
    assert not policy.is_retrying

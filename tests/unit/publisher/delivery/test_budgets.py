"""Budgets: the buckets and the quotas of the day."""

from datetime import UTC, datetime, timedelta

import pytest

from services.publisher.delivery.budgets.rules import (
    BudgetLimits,
    BudgetRule,
    BudgetState,
    Exhausted,
    account_rule,
    app_rule,
    charge,
    count_available,
    lower,
    take,
)
from shared.pinterest.model import Category, RateLimits

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
RULE = BudgetRule(capacity=10, per_second=1, per_day=3)


def make_state(
    *, level: float = 10, used: int = 0, blocked_seconds: float | None = None, hours: float = 1
) -> BudgetState:
    blocked = None if blocked_seconds is None else NOW + timedelta(seconds=blocked_seconds)
    return BudgetState(level, NOW, blocked, NOW - timedelta(hours=hours), used)


def test_a_request_takes_one_token_and_its_units_of_the_day() -> None:
    taken = take(make_state(), RULE, NOW, units=1)
    assert isinstance(taken, BudgetState)
    assert (taken.level, taken.used) == (9, 1)


def test_an_empty_bucket_tells_when_the_next_token_comes() -> None:
    assert take(make_state(level=0.25), RULE, NOW, units=0) == pytest.approx(0.75)


def test_a_bucket_refills_to_its_capacity_and_no_further() -> None:
    taken = take(make_state(level=0), RULE, NOW + timedelta(hours=1), units=0)
    assert isinstance(taken, BudgetState)
    assert taken.level == 9


def test_a_clock_that_goes_back_takes_no_tokens_away() -> None:
    taken = take(make_state(level=5), RULE, NOW - timedelta(seconds=60), units=0)
    assert isinstance(taken, BudgetState)
    assert (taken.level, taken.refilled_at) == (4, NOW)


def test_a_request_that_was_taken_before_needs_no_token() -> None:
    taken = take(make_state(level=-2), RULE, NOW, units=1, requests=0)
    assert isinstance(taken, BudgetState)
    assert (taken.level, taken.used) == (-2, 1)


def test_whole_tokens_are_available_and_none_during_a_block() -> None:
    assert count_available(make_state(level=2.9), RULE, NOW) == 2
    assert count_available(make_state(level=-2), RULE, NOW) == 0
    assert count_available(make_state(blocked_seconds=1), RULE, NOW) == 0


def test_what_several_processes_take_at_once_delays_later_requests() -> None:
    charged = charge(make_state(level=2), RULE, NOW, 5)
    assert charged.level == -3
    assert take(charged, RULE, NOW, units=0) == 4


def test_the_days_quota_ends_24_hours_after_its_first_use() -> None:
    assert take(make_state(used=3), RULE, NOW, units=1) == Exhausted(23 * 3600, is_app=False)
    assert isinstance(take(make_state(used=3), RULE, NOW, units=0), BudgetState)
    taken = take(make_state(used=3, hours=24), RULE, NOW, units=1)
    assert isinstance(taken, BudgetState)
    assert (taken.used, taken.day_started_at) == (1, NOW)


def test_a_block_by_pinterest_is_waited_out() -> None:
    assert take(make_state(blocked_seconds=60), RULE, NOW, units=0) == 60
    assert isinstance(take(make_state(blocked_seconds=-1), RULE, NOW, units=0), BudgetState)


def test_pinterests_count_lowers_a_level_and_never_raises_it() -> None:
    assert lower(make_state(level=5), RULE, RateLimits(2, 30), NOW).level == 2
    assert lower(make_state(level=5), RULE, RateLimits(900, 30), NOW).level == 5


def test_a_used_up_limit_blocks_until_its_reset_which_is_in_seconds() -> None:
    lowered = lower(make_state(), RULE, RateLimits(0, 67_150), NOW)
    assert lowered.blocked_until == NOW + timedelta(seconds=67_150)
    assert lower(make_state(blocked_seconds=90_000), RULE, RateLimits(0, 5), NOW).blocked_until == (
        NOW + timedelta(seconds=90_000)
    )


def test_the_default_limits_stay_below_pinterests_in_every_minute() -> None:
    limits = BudgetLimits(60, 500, 200, 80, 0)
    for category, theirs in ((Category.WRITE, 100), (Category.READ, 1000)):
        rule = account_rule(limits, category)
        assert rule.capacity + 60 * rule.per_second <= theirs
    assert account_rule(limits, Category.READ).per_day is None
    assert app_rule(limits).per_day is None
    assert app_rule(limits._replace(app_writes_per_day=300)).per_day == 300

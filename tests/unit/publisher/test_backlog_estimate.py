"""The estimated end of a backlog, compared with a simulation that takes every pin's budgets."""

from datetime import UTC, datetime, timedelta
from math import inf

import pytest

from services.publisher.backlog.estimate import (
    Bucket,
    DailyQuota,
    Pace,
    combine_quotas,
    estimate_seconds,
    measure_interval,
    share_bucket,
)
from services.publisher.backlog.repository import StoredBudget
from services.publisher.backlog.service import compute_bucket, compute_quota
from services.publisher.delivery.budgets.rules import (
    BudgetRule,
    BudgetState,
    Exhausted,
    take,
)

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
DAY_SECONDS = 86_400.0
UNLIMITED = 10_000_000


def simulate(pins: int, rule: BudgetRule, state: BudgetState, interval: float) -> float:
    """Delivers pins one after another by the rules of budgets. Returns the seconds that it takes.

    Each pin's attempt takes the interval, the waits come on top of it.
    """
    now = NOON
    for _ in range(pins):
        while not isinstance(taken := take(state, rule, now, units=1), BudgetState):
            seconds = taken.seconds if isinstance(taken, Exhausted) else taken
            now += timedelta(seconds=max(seconds, 0.001))  # the clock counts microseconds
        state = taken
        now += timedelta(seconds=interval)
    return (now - NOON).total_seconds()


def estimate(pins: int, rule: BudgetRule, state: BudgetState, interval: float) -> float:
    budget = StoredBudget(NOON, state)
    pace = Pace(interval, compute_bucket(budget, rule, NOON), compute_quota(budget, rule, NOON))
    return estimate_seconds(pins, pace)


@pytest.mark.parametrize("pins", [100, 1_000, 10_000])
@pytest.mark.parametrize(
    ("per_minute", "per_day", "interval"),
    [
        pytest.param(60, 200, 2.3, id="the default limits"),
        pytest.param(60, UNLIMITED, 0.2, id="the bucket limits"),
        pytest.param(60, UNLIMITED, 2.0, id="the spacing limits"),
        pytest.param(600, 50_000, 0.05, id="a fast account"),
        pytest.param(10, 20_000, 0.5, id="the quota never ends before the day"),
        pytest.param(1, 1_000, 1.0, id="one a minute"),
    ],
)
def test_the_estimate_is_right_within_ten_percent(
    pins: int, per_minute: int, per_day: int, interval: float
) -> None:
    rule = BudgetRule(max(1.0, per_minute / 6), per_minute / 60, per_day)
    state = BudgetState(rule.capacity, NOON, None, NOON, 0)
    expected = simulate(pins, rule, state, interval)
    assert estimate(pins, rule, state, interval) == pytest.approx(expected, rel=0.1)


def test_the_estimate_of_a_hundred_thousand_pins_is_right_within_ten_percent() -> None:
    rule = BudgetRule(10.0, 1.0, 20_000)
    state = BudgetState(rule.capacity, NOON, None, NOON, 0)
    expected = simulate(100_000, rule, state, 1.3)
    assert estimate(100_000, rule, state, 1.3) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("used", "hours_ago", "level"), [(150, 6, 0.0), (200, 23, 10.0), (200, 30, 0.0), (10, 1, 3.0)]
)
@pytest.mark.parametrize("pins", [100, 1_000, 10_000])
def test_the_estimate_knows_what_was_used_before(
    used: int, hours_ago: int, level: float, pins: int
) -> None:
    rule = BudgetRule(10.0, 1.0, 200)
    state = BudgetState(level, NOON, None, NOON - timedelta(hours=hours_ago), used)
    expected = simulate(pins, rule, state, 0.5)
    assert estimate(pins, rule, state, 0.5) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("pins", [1, 2, 5])
def test_few_pins_take_their_intervals(pins: int) -> None:
    pace = Pace(2.0, Bucket(10.0, 10.0, 1.0), DailyQuota(200, 200, DAY_SECONDS))
    assert estimate_seconds(pins, pace) == pins * 2.0


def test_the_speed_is_learned_from_the_last_attempts() -> None:
    assert measure_interval([], 2.0) == 2.5
    assert measure_interval([3.0, 3.1, 2.9, 3.0], 2.0) == pytest.approx(3.0)


def test_times_without_pins_do_not_count_as_slow() -> None:
    assert measure_interval([3.0, 3.0, 3.0, 400.0], 2.0) == pytest.approx(3.0)


def test_a_shorter_spacing_than_the_operators_is_not_learned() -> None:
    assert measure_interval([1.0] * 10, 5.0) == 5.0


def test_an_account_has_its_share_of_the_app() -> None:
    account, app = Bucket(10.0, 10.0, 1.0), Bucket(80.0, 80.0, 80.0)
    assert share_bucket(account, app, 10) == account
    assert share_bucket(account, app, 160).per_second == 0.5


def test_the_quota_of_the_app_is_shared() -> None:
    account = DailyQuota(200, 200, DAY_SECONDS)
    assert combine_quotas(account, None, 5) == account
    assert combine_quotas(account, DailyQuota(300, 90, 3600.0), 3) == DailyQuota(100, 30, 3600.0)


def test_no_backlog_is_endless() -> None:
    pace = Pace(2.0, Bucket(0.0, 1.0, 1 / 60), DailyQuota(0.5, 0.0, 60.0))
    assert 0 < estimate_seconds(1_000, pace) < inf

"""Decides whether a request fits the limits of an account and of the app at Pinterest. No I/O.

A token bucket limits the rate: each request takes one token, and the bucket refills steadily. A
counter limits a day: of pins for an account, of changes for the app. Pinterest's own counts
(x-ratelimit-*) only lower a bucket, because other programs may use the same limit.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from shared.pinterest.model import Category, RateLimits

DAY = timedelta(days=1)
BURST_SHARE = 1 / 6
"""The part of a minute's limit that may be sent at once. So a minute has at most 7/6 of it."""
MINUTE_SECONDS = 60.0


class BudgetLimits(NamedTuple):
    """The limits as the operator set them (settings.py)."""

    account_writes_per_minute: int
    account_reads_per_minute: int
    daily_pins: int
    app_requests_per_second: int
    app_writes_per_day: int
    """0: no limit."""


class BudgetRule(NamedTuple):
    """The limits of one budget."""

    capacity: float
    per_second: float
    per_day: int | None = None


class BudgetState(NamedTuple):
    """A row of publisher.pinterest_budgets."""

    level: float
    refilled_at: datetime
    blocked_until: datetime | None
    day_started_at: datetime
    used: int


class Exhausted(NamedTuple):
    """The day's quota is used up."""

    seconds: float
    """Seconds until the next day of the quota begins."""
    is_app: bool
    """True: the quota of the app, which all accounts share."""


def account_rule(limits: BudgetLimits, category: Category) -> BudgetRule:
    """Returns the limits of one account."""
    is_write = category is Category.WRITE
    per_minute = limits.account_writes_per_minute if is_write else limits.account_reads_per_minute
    return BudgetRule(
        max(1.0, per_minute * BURST_SHARE),
        per_minute / MINUTE_SECONDS,
        limits.daily_pins if is_write else None,
    )


def app_rule(limits: BudgetLimits) -> BudgetRule:
    """Returns the limits of all accounts together."""
    rate = float(limits.app_requests_per_second)
    return BudgetRule(max(1.0, rate), rate, limits.app_writes_per_day or None)


def take(
    state: BudgetState,
    rule: BudgetRule,
    now: datetime,
    *,
    units: int,
    requests: int = 1,
    is_app: bool = False,
) -> BudgetState | Exhausted | float:
    """Takes one request, and `units` of the day's quota.

    `requests` is 0 if the request was taken before, with others (`charge`). Returns the state after
    it. If it does not fit: the seconds to wait, or Exhausted.
    """
    state = _refill(state, rule, now)
    if rule.per_day is not None and units and state.used + units > rule.per_day:
        return Exhausted((state.day_started_at + DAY - now).total_seconds(), is_app)
    if state.blocked_until is not None and state.blocked_until > now:
        return (state.blocked_until - now).total_seconds()
    if requests and state.level < requests:
        return (requests - state.level) / rule.per_second
    return state._replace(level=state.level - requests, used=state.used + units)


def count_available(state: BudgetState, rule: BudgetRule, now: datetime) -> int:
    """Returns how many requests may be sent at once now."""
    if state.blocked_until is not None and state.blocked_until > now:
        return 0
    return max(0, int(_refill(state, rule, now).level))


def charge(state: BudgetState, rule: BudgetRule, now: datetime, requests: int) -> BudgetState:
    """Takes requests that `count_available` has allowed.

    The level falls below 0 if another process took some meanwhile: later requests wait for that.
    """
    state = _refill(state, rule, now)
    return state._replace(level=state.level - requests)


def lower(state: BudgetState, rule: BudgetRule, limits: RateLimits, now: datetime) -> BudgetState:
    """Returns the state after an answer with Pinterest's own count. Never raises the level."""
    state = _refill(state, rule, now)
    level = min(state.level, float(limits.remaining))
    if limits.remaining > 0 or limits.reset_seconds is None:
        return state._replace(level=level)
    until = now + timedelta(seconds=limits.reset_seconds)
    return state._replace(level=level, blocked_until=max(until, state.blocked_until or until))


def _refill(state: BudgetState, rule: BudgetRule, now: datetime) -> BudgetState:
    seconds = max(0.0, (now - state.refilled_at).total_seconds())
    state = state._replace(
        level=min(rule.capacity, state.level + seconds * rule.per_second),
        refilled_at=max(now, state.refilled_at),
    )
    if now >= state.day_started_at + DAY:
        return state._replace(day_started_at=now, used=0)
    return state

"""Estimates when the backlog of an account is delivered. Pure rules: no I/O.

A pin takes its interval. Besides, a token bucket limits the rate, and quotas limit a day. The
estimate assumes that nothing fails and that the interval stays as it is.
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

DAY_SECONDS = 86_400.0
MAX_SECONDS = 100 * 365 * DAY_SECONDS
"""An end that is later says nothing, and may be one that no calendar has."""
UNKNOWN_LATENCY_SECONDS = 0.5
"""Time of one request and of the search before it, until an account's own speed is known."""
MIN_GAPS = 3
IDLE_FACTOR = 3.0
"""A gap that is longer than this many usual ones is a time without pins to send."""


class Bucket(NamedTuple):
    """A token bucket as it is now. Each pin takes a token."""

    level: float
    capacity: float
    per_second: float


class DailyQuota(NamedTuple):
    """A limit of a day."""

    per_day: float
    left: float
    """Pins that may be sent before the day of the quota ends."""
    seconds_left: float
    """Seconds until that day ends."""


class Pace(NamedTuple):
    """Says how fast an account's pins are delivered."""

    interval_seconds: float
    bucket: Bucket
    quota: DailyQuota | None = None

    def seconds_for(self, pins: float, level: float) -> float:
        """Returns the time for `pins` pins without a quota, from a bucket with `level` tokens."""
        by_interval = (pins - 1) * self.interval_seconds
        by_bucket = (pins - level) / self.bucket.per_second
        return max(by_interval, by_bucket, 0.0) + self.interval_seconds

    def count_in(self, seconds: float, level: float) -> float:
        """Returns how many pins fit into a time without a quota."""
        by_interval = seconds / self.interval_seconds if self.interval_seconds else inf
        return min(by_interval, level + seconds * self.bucket.per_second)


def measure_interval(gaps: Sequence[float], spacing_seconds: float) -> float:
    """Returns the seconds between two pins of an account.

    `gaps` are the times between its last attempts. If there are few, the spacing and the time of a
    usual request count.
    """
    if len(gaps) < MIN_GAPS:
        return spacing_seconds + UNKNOWN_LATENCY_SECONDS
    median = sorted(gaps)[len(gaps) // 2]
    usual = [gap for gap in gaps if gap <= IDLE_FACTOR * median]
    return max(sum(usual) / len(usual), spacing_seconds)


def share_bucket(account: Bucket, app: Bucket, accounts: int) -> Bucket:
    """Limits an account's bucket to its share of the app's. `accounts` share the app."""
    per_second = app.per_second / max(1, accounts)
    return account if account.per_second <= per_second else account._replace(per_second=per_second)


def combine_quotas(account: DailyQuota, app: DailyQuota | None, accounts: int) -> DailyQuota:
    """Returns the quota that ends first: the account's, or its share of the app's."""
    if app is None:
        return account
    share = DailyQuota(
        app.per_day / max(1, accounts), app.left / max(1, accounts), app.seconds_left
    )
    return DailyQuota(
        min(account.per_day, share.per_day),
        min(account.left, share.left),
        account.seconds_left if account.left <= share.left else share.seconds_left,
    )


def estimate_seconds(pins: int, pace: Pace) -> float:
    """Returns the seconds until all pins are delivered, from the moment the first may be sent."""
    level, quota = pace.bucket.level, pace.quota
    if quota is None or pins <= quota.left:
        return pace.seconds_for(pins, level)
    is_used_up = pace.seconds_for(quota.left, level) < quota.seconds_left
    sent = quota.left if is_used_up else pace.count_in(quota.seconds_left, level)
    # After a wait the bucket is full. A day that ends earlier has just used its tokens
    next_level = pace.bucket.capacity if is_used_up else 0.0
    return quota.seconds_left + _estimate_days(pins - sent, pace, quota.per_day, next_level)


def _estimate_days(pins: float, pace: Pace, per_day: float, level: float) -> float:
    """Returns the seconds for pins of which at most `per_day` are sent in each day from now."""
    if pins <= 0:
        return 0.0
    if pace.seconds_for(per_day, level) >= DAY_SECONDS:
        return pace.seconds_for(pins, level)  # the quota never ends before the day
    full_days = (pins - 1) // per_day if per_day >= 1 else pins / per_day
    return full_days * DAY_SECONDS + pace.seconds_for(pins - full_days * per_day, level)

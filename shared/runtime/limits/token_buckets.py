"""Limits rates by token buckets.

Callers that wait for a token use `aiolimiter.AsyncLimiter`. `TokenBuckets` is our own, because its
callers don't wait: they are told after how many seconds there is a token (for Retry-After), and
hand back a token they did not need. aiolimiter 1.3 offers neither, and a bucket of it for each of
10 000 addresses would be an object with a heap instead of one number.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from aiolimiter import AsyncLimiter

K = TypeVar("K")
ROUNDING_SECONDS = 1e-6
"""The error of sums of floats that ought to be equal."""


def token_bucket(*, per_second: float, burst: int) -> AsyncLimiter:
    """Builds a full bucket of `burst` tokens that gains `per_second` tokens until it is full."""
    return AsyncLimiter(burst, burst / per_second)


class TokenBuckets(Generic[K]):
    """Gives each key a bucket of `burst` tokens, which fills again in `period_seconds`.

    A bucket is one number, the time at which it is full (GCRA). At most `max_keys` are kept: the
    key that took a token longest ago is forgotten first, which means that its bucket is full.
    """

    def __init__(
        self,
        burst: int,
        period_seconds: float,
        *,
        max_keys: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds_per_token = period_seconds / burst
        self._seconds_of_burst = period_seconds - self._seconds_per_token
        self._max_keys = max_keys
        self._clock = clock
        self._full_at: OrderedDict[K, float] = OrderedDict()

    def try_acquire(self, key: K) -> float:
        """Takes a token and returns 0; without one, returns the seconds until there is one."""
        if seconds := self.seconds_until_token(key):
            return seconds
        full_at = max(self._full_at.get(key, -math.inf), self._clock())
        self._full_at[key] = full_at + self._seconds_per_token
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._max_keys:
            self._full_at.popitem(last=False)
        return 0.0

    def seconds_until_token(self, key: K) -> float:
        """Returns 0 if there is a token."""
        full_at = self._full_at.get(key, -math.inf)
        seconds = full_at - self._clock() - self._seconds_of_burst
        return seconds if seconds > ROUNDING_SECONDS else 0.0

    def refund(self, key: K) -> None:
        """Hands back a token."""
        if key in self._full_at:
            self._full_at[key] -= self._seconds_per_token

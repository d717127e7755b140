"""Limits rates by token buckets.

Callers that wait for a token use `aiolimiter.AsyncLimiter`. Callers of `TokenBuckets` do not wait:
they get the seconds until the next token (for Retry-After), and can return an unused token.
aiolimiter 1.3 offers neither. It also needs an object with a heap per bucket, where TokenBuckets
needs one number for each of up to 10 000 client addresses.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from aiolimiter import AsyncLimiter

K = TypeVar("K")
ROUNDING_SECONDS = 1e-6
"""Floats that should be equal may differ by this much after additions."""


def token_bucket(*, per_second: float, burst: int) -> AsyncLimiter:
    """Builds a full bucket of `burst` tokens. It gains `per_second` tokens a second until full."""
    return AsyncLimiter(burst, burst / per_second)


class TokenBuckets(Generic[K]):
    """Holds a bucket of `burst` tokens per key. An empty bucket is full after `period_seconds`.

    A bucket is stored as the time at which it is full again (the GCRA algorithm). At most
    `max_keys` buckets are stored. To make room, the key that took a token longest ago gets a full
    bucket.
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
        """Takes a token and returns 0. If there is none, returns the seconds until the next."""
        if seconds := self.seconds_until_token(key):
            return seconds
        full_at = max(self._full_at.get(key, -math.inf), self._clock())
        self._full_at[key] = full_at + self._seconds_per_token
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._max_keys:
            self._full_at.popitem(last=False)
        return 0.0

    def seconds_until_token(self, key: K) -> float:
        """Returns the seconds until a token is available: 0 if one is available now."""
        full_at = self._full_at.get(key, -math.inf)
        seconds = full_at - self._clock() - self._seconds_of_burst
        return seconds if seconds > ROUNDING_SECONDS else 0.0

    def refund(self, key: K) -> None:
        """Returns an unused token to the bucket."""
        if key in self._full_at:
            self._full_at[key] -= self._seconds_per_token

"""A set whose members expire. No I/O."""

import time
from collections.abc import Hashable
from typing import Generic, TypeVar

from shared.runtime.clock import Clock

CACHE_SECONDS = 30.0
MAX_CACHED = 50_000

K = TypeVar("K", bound=Hashable)


class TTLSet(Generic[K]):
    """A bounded set whose members expire.

    When it is full, all members are removed. That is simple, and rare.
    """

    def __init__(
        self,
        seconds: float = CACHE_SECONDS,
        max_size: int = MAX_CACHED,
        clock: Clock = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._max_size = max_size
        self._clock = clock
        self._expires_at: dict[K, float] = {}

    def __contains__(self, key: K) -> bool:
        return self._expires_at.get(key, 0.0) > self._clock()

    def add(self, key: K) -> None:
        if len(self._expires_at) >= self._max_size:
            self._expires_at.clear()
        self._expires_at[key] = self._clock() + self._seconds

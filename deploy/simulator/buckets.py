"""Counts requests against the rate limits of Pinterest, by app, user and category.

The limits are the published ones, unless an option says otherwise. How Pinterest counts is unknown:
here a limit is for a fixed window that starts with its first request. The counts are in memory and
end with the process.
"""

from dataclasses import dataclass
from math import ceil

from deploy.simulator.options import Access, Category, Options

MINUTE, DAY = 60, 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Limit:
    requests: int
    window_seconds: int


LIMITS: dict[Access, dict[Category, Limit]] = {
    "standard": {
        "org_read": Limit(1000, MINUTE),
        "org_write": Limit(Options.writes_per_minute, MINUTE),
    },
    "trial": {"org_read": Limit(1000, DAY), "org_write": Limit(300, DAY)},
}
"""Standard: for each user of the app. Trial: for all users of the app together."""


@dataclass(frozen=True, slots=True)
class RestOfLimit:
    """The rest of a limit after a request."""

    limit: int
    remaining: int
    reset_seconds: int
    is_exceeded: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer. The reset is seconds to wait, not a time."""
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-reset": str(self.reset_seconds),
        }


@dataclass(slots=True)
class _Window:
    ends_at: float
    count: int = 0


class Buckets:
    """Holds a window for each user and category."""

    def __init__(self, writes_per_minute: int = Options.writes_per_minute) -> None:
        self._limits = {
            **LIMITS,
            "standard": {**LIMITS["standard"], "org_write": Limit(writes_per_minute, MINUTE)},
        }
        self._windows: dict[tuple[Access, str, Category], _Window] = {}

    def clear(self) -> None:
        self._windows.clear()

    def take(self, access: Access, user_id: str, category: Category, now: float) -> RestOfLimit:
        """Counts one request. If the limit is used up, the request is not counted."""
        limit = self._limits[access][category]
        key = (access, user_id if access == "standard" else "", category)
        window = self._windows.get(key)
        if window is None or window.ends_at <= now:
            window = self._windows[key] = _Window(now + limit.window_seconds)
        is_exceeded = window.count >= limit.requests
        if not is_exceeded:
            window.count += 1
        reset_seconds = max(1, ceil(window.ends_at - now))
        return RestOfLimit(
            limit.requests, limit.requests - window.count, reset_seconds, is_exceeded
        )

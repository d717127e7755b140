"""Computes the waits between attempts that are retried without a limit."""

MAX_DOUBLINGS = 30
"""Maximum doublings of the first wait. Without this bound, 2**1024 does not fit a float: after
about two hours of an outage, the retry itself would raise OverflowError."""


def backoff(attempt: int, *, first: float, limit: float) -> float:
    """Returns the seconds to wait: `first`, doubled `attempt` times, at most `limit`."""
    doubled: float = first * 2 ** min(attempt, MAX_DOUBLINGS)
    return min(doubled, limit)

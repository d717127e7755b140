"""Computes the waits between the attempts of work that is retried without a limit."""

MAX_DOUBLINGS = 30
"""Keeps the wait a float. Without this bound, 2**1024 raises OverflowError: after two hours of an
outage at 10 s an attempt, the retry itself would fail."""


def backoff(attempt: int, *, first: float, limit: float) -> float:
    """Returns the seconds to wait: `first`, doubled `attempt` times, at most `limit`."""
    doubled: float = first * 2 ** min(attempt, MAX_DOUBLINGS)
    return min(doubled, limit)

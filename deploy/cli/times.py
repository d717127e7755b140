"""Parses the times that options name."""

import re
from datetime import UTC, datetime, timedelta

_DURATION_PATTERN = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_since(text: str, now: datetime) -> datetime:
    """Parses an ISO 8601 date or time, or a duration before `now`: 90s, 30m, 12h, 7d.

    A time without a zone is UTC. Raises ValueError.
    """
    if duration := _DURATION_PATTERN.fullmatch(text):
        return now - timedelta(**{_UNITS[duration[2]]: int(duration[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text} is neither a time, like 2026-03-06T10:00Z, nor a duration, like 90s, 30m, 12h "
            "or 7d."
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)

"""Defines the times of events, and the bounds that Postgres sets them."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta
from pydantic import Field

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Bounds of an import's time. Postgres also accepts years that psycopg can't read, such as 10000.

One job or pin with such a time would block every list and every batch of events that contains it.
"""
AwareTime = Annotated[datetime, Meta(tz=True)]
StorableTime = Annotated[AwareTime, Field(ge=EARLIEST, lt=LATEST)]
"""A time that Postgres and psycopg can store and read back.

msgspec has no bounds for times: a struct with such a field must call `require_storable_time`.
"""


def require_storable_time(name: str, time: datetime) -> None:
    """Raises ValueError for a time before EARLIEST, or at or after LATEST."""
    if not EARLIEST <= time < LATEST:
        raise ValueError(f"{name} must be from 1970 to 9998")

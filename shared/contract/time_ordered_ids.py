"""Builds and reads ids that begin with their time: UUIDv7 (RFC 9562, section 5.7).

Such an id has 48 bits of milliseconds since 1970, then 74 bits that the caller chooses, apart from
the version and the variant. Python builds them itself only from 3.14.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

LATEST_MS = 2**48 - 1
"""The latest time that an id can have."""
CHOSEN_BITS = 74
_LOW_BITS = 62
"""The chosen bits after the variant. The others stand between version and variant."""
_VERSION = 7
_VARIANT = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def count_milliseconds(moment: datetime) -> int:
    """Returns the milliseconds since 1970, rounded down."""
    return (moment - _EPOCH) // _MILLISECOND


def build_time_ordered_id(milliseconds: int, chosen: int) -> UUID:
    """Builds an id. `milliseconds` is 0 to LATEST_MS, `chosen` has CHOSEN_BITS bits."""
    high, low = chosen >> _LOW_BITS, chosen & (1 << _LOW_BITS) - 1
    return UUID(int=milliseconds << 80 | _VERSION << 76 | high << 64 | _VARIANT << 62 | low)


def read_milliseconds(time_ordered_id: UUID) -> int:
    """Returns the milliseconds since 1970 of a UUIDv7."""
    return time_ordered_id.int >> 80


def read_time(value: UUID) -> datetime | None:
    """Returns the time of an id. None if it is no UUIDv7, or its time is after the year 9999."""
    if value.version != _VERSION:
        return None
    try:
        return _EPOCH + read_milliseconds(value) * _MILLISECOND
    except OverflowError:
        return None

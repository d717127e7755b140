"""Finds out from a job's id when its pins were created. No I/O."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from shared.contract.events import MAX_ROWS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TIME_ORDERED = 7
"""The version of UUIDs that start with their time."""
_LAST_ROW = timedelta(microseconds=MAX_ROWS + 1)


class CreationWindow(NamedTuple):
    """The times between which all pins of a job were created."""

    accepted_from: datetime
    created_until: datetime
    """The first time that is too late."""


def find_creation_window(job_id: UUID) -> CreationWindow | None:
    """Finds the times of a job's pins. Returns None if no import has such an id.

    The id is a UUIDv7: it has the millisecond in which the import was accepted. A pin is created
    at the import's accepted_at, plus one microsecond for each row up to its own.
    """
    if job_id.version != _TIME_ORDERED:
        return None
    try:
        start = _EPOCH + (job_id.int >> 80) * _MILLISECOND
        return CreationWindow(start, start + _MILLISECOND + _LAST_ROW)
    except OverflowError:  # after the year 9999
        return None

"""Computes when the pins of an import are created. No I/O.

A pin's created_at is the import's accepted_at plus one microsecond for each row up to its own. That
keeps the rows' order in lists, without another column in the lists' index.
"""

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from shared.contract.events import MAX_ROWS
from shared.contract.time_ordered_ids import read_time

_MILLISECOND, _MICROSECOND = timedelta(milliseconds=1), timedelta(microseconds=1)


def compute_created_at(accepted_at: datetime, row_number: int) -> datetime:
    """Computes the created_at of a row's pin."""
    return accepted_at + row_number * _MICROSECOND


class CreationWindow(NamedTuple):
    """The times between which all pins of a job were created."""

    accepted_from: datetime
    created_until: datetime
    """The first time that is too late."""


def find_creation_window(job_id: UUID) -> CreationWindow | None:
    """Finds the times of a job's pins by its id. Returns None if no import has such an id.

    The id is a UUIDv7: it has the millisecond in which the import was accepted.
    """
    if (start := read_time(job_id)) is None:
        return None
    try:
        return CreationWindow(start, compute_created_at(start + _MILLISECOND, MAX_ROWS + 1))
    except OverflowError:  # after the year 9999
        return None

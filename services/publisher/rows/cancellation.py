"""Finds the rows of canceled jobs. Does no I/O. imports/repository.py cancels jobs."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

from services.publisher.rows.snapshot import KeyedRow


class JobCanceled(Exception):
    """A job of the batch was canceled. Nothing was written."""


class RecordPosition(NamedTuple):
    """Names the place of a row's record in `imports`."""

    partition: int
    offset: int


class JobPartition(NamedTuple):
    """The part of a job in one partition."""

    job_id: UUID
    workspace_id: UUID
    partition: int


def find_canceled(
    rows: Iterable[KeyedRow],
    positions: Mapping[int, RecordPosition],
    cancellations: Mapping[JobPartition, int],
) -> set[int]:
    """Finds the rows whose job was canceled before they were settled.

    Rows are identified by the id of their object: one row may be delivered in several records.
    """
    canceled = set()
    for row in (keyed.row for keyed in rows):
        if (position := positions.get(id(row))) is None:
            continue
        part = JobPartition(row.job_id, row.workspace_id, position.partition)
        settled_until = cancellations.get(part)
        if settled_until is not None and position.offset >= settled_until:
            canceled.add(id(row))
    return canceled

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
    jobs = {(part.job_id, part.workspace_id) for part in cancellations}
    canceled = set()
    for row in (keyed.row for keyed in rows):
        position = positions.get(id(row))
        if position is None or (row.job_id, row.workspace_id) not in jobs:
            continue
        part = JobPartition(row.job_id, row.workspace_id, position.partition)
        # A partition without an entry had no position then, so none of its rows was settled
        if position.offset >= cancellations.get(part, 0):
            canceled.add(id(row))
    return canceled

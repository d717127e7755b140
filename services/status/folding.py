"""Prepares a fold: groups a batch's events by job, in the form that the SQL statements need."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from services.status.results.encoding import encode_results
from shared.contract.events import (
    FileUploaded,
    ImportAccepted,
    ImportRejected,
    RowResult,
    RowsSettled,
    RowStatus,
)
from shared.contract.not_published import find_not_published
from shared.contract.wire import encode

BYTES_PER_ROW = 800
"""Bytes of an upload that count as one row of a fold.

So MAX_FOLD_WEIGHT also limits the uploads of a transaction, to 16 MB.
"""


class CompressedUpload(NamedTuple):
    """The file or body that a client sent, compressed."""

    header: FileUploaded
    content: bytes

    @property
    def job_id(self) -> UUID:
        """The job of the upload's import."""
        return self.header.job_id


Foldable = ImportAccepted | ImportRejected | RowsSettled | CompressedUpload


@dataclass(slots=True)
class EventsByJob:
    """The events of a batch, grouped by job."""

    jobs: dict[UUID, tuple[Any, ...]] = field(default_factory=dict)
    """Columns of the jobs. If the import is not in the batch, only the ids are set."""
    results: dict[UUID, list[RowResult]] = field(default_factory=lambda: defaultdict(list))
    uploads: dict[tuple[UUID, UUID], tuple[Any, ...]] = field(default_factory=dict)
    """Columns of the uploads, by job and workspace."""
    upload_bytes: int = 0
    """Size of all uploads together."""


class Tally(NamedTuple):
    """The changes that the results of a batch make to a job."""

    created: int
    existing: int
    failed: int
    settled: str
    """A 1 for each settled row and a 0 for the others, at the index of the row number."""
    first_row: int | None
    """The lowest number of a row that settles now. None if no row does."""
    results: str | None
    """JSON of the results of the rows that settle now, in row order."""
    not_published: str | None
    """A 1 for each row that settles now as existing, with a pin that will not be published.

    None if there is no such row.
    """


def group_by_job(events: Iterable[Foldable]) -> EventsByJob:
    """Groups events by job.

    Events can come repeatedly and in any order. Only the first stored result of a row counts.
    Likewise, only the first import event of a job counts: ingest may append it again after a crash.
    """
    grouped = EventsByJob()
    with_import: set[UUID] = set()
    for event in events:
        if isinstance(event, ImportAccepted | ImportRejected):
            if event.job_id not in with_import:
                with_import.add(event.job_id)
                grouped.jobs[event.job_id] = _import_columns(event)
        elif isinstance(event, CompressedUpload):
            header = event.header
            ids = (header.job_id, header.workspace_id)
            parameters = encode(header.parameters).decode() if header.parameters else None
            row = (*ids, header.format.value, header.size, event.content, parameters)
            if ids not in grouped.uploads:
                grouped.uploads[ids] = row
                grouped.upload_bytes += len(event.content)
        else:
            grouped.jobs.setdefault(event.job_id, _outcome_columns(event))
            grouped.results[event.job_id] += event.results
    return grouped


def tally(settled: str, results: Iterable[RowResult]) -> Tally:
    """Counts the new results of a job.

    The first result of a row counts. Results of rows that are marked in `settled` are ignored.
    """
    bits = int(settled[::-1], 2)
    fresh = []
    for result in results:
        bit = 1 << result.row_number
        if not bits & bit:
            bits |= bit
            fresh.append(result)
    statuses = [result.status for result in fresh]
    added = (
        statuses.count(RowStatus.CREATED),
        statuses.count(RowStatus.EXISTING),
        statuses.count(RowStatus.FAILED),
    )
    if not fresh:
        return Tally(*added, settled, None, None, None)
    fresh.sort(key=attrgetter("row_number"))
    return Tally(
        *added,
        _format_bits(bits, len(settled)),
        fresh[0].row_number,
        encode_results(fresh),
        _mark_not_published(fresh, len(settled)) if added[1] else None,
    )


def _mark_not_published(results: Iterable[RowResult], size: int) -> str | None:
    bits = 0
    for row_number in find_not_published(results):
        bits |= 1 << row_number
    return _format_bits(bits, size) if bits else None


def _format_bits(bits: int, size: int) -> str:
    return f"{bits:0{size}b}"[::-1]


def compute_weight(event: Foldable) -> int:
    """Returns the weight of an event, for MAX_FOLD_WEIGHT: its results, or 1 for an import.

    An upload weighs 1, and 1 more for every BYTES_PER_ROW bytes.
    """
    match event:
        case ImportAccepted() | ImportRejected():
            return 1
        case CompressedUpload(content=content):
            return 1 + len(content) // BYTES_PER_ROW
        case RowsSettled(results=results):
            return len(results)


def _outcome_columns(event: RowsSettled) -> tuple[Any, ...]:
    return (event.job_id, event.workspace_id, *(None,) * 11)


def _import_columns(event: ImportAccepted | ImportRejected) -> tuple[Any, ...]:
    details: tuple[str | int | UUID | None, ...]
    if isinstance(event, ImportAccepted):
        warnings = encode(event.warnings).decode() if event.warnings else None
        counts = (event.publishing_now, event.scheduled_for_later)
        total, details = event.total_rows, (warnings, None, None, *counts, event.parent_id)
    else:
        total, details = 0, (None, event.error_code, event.error_message, None, None, None)
    source = (event.source_type.value, event.source_filename, event.request_id)
    return (event.job_id, event.workspace_id, event.accepted_at, total, *source, *details)

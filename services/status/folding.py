"""From events to what is new of their jobs: one batch of imports and outcomes, as the fold's
statements take it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from services.status.results import encode_results
from shared.contract.events import (
    FileUploaded,
    ImportAccepted,
    ImportRejected,
    RowResult,
    RowsSettled,
    RowStatus,
)
from shared.contract.wire import encode

BYTES_PER_ROW = 800
"""Bytes of an upload that count as one row of a fold. So MAX_FOLDED_ROWS bounds a transaction's
uploads too: 16 MB of them."""


class CompressedUpload(NamedTuple):
    """A client's file or body, still compressed."""

    about: FileUploaded
    content: bytes

    @property
    def job_id(self) -> UUID:
        """Returns the id of its import's job."""
        return self.about.job_id


Foldable = ImportAccepted | ImportRejected | RowsSettled | CompressedUpload


@dataclass(slots=True)
class Fold:
    """Distinct jobs, with what their import says if it is in the batch, the row results of each,
    and the uploads.
    """

    jobs: dict[UUID, tuple[Any, ...]] = field(default_factory=dict)
    results: dict[UUID, list[RowResult]] = field(default_factory=lambda: defaultdict(list))
    uploads: dict[tuple[UUID, UUID], tuple[Any, ...]] = field(default_factory=dict)
    """By job and workspace."""
    upload_bytes: int = 0
    """The bytes of all contents."""


class Tally(NamedTuple):
    """What a batch's results add to a job."""

    created: int
    existing: int
    failed: int
    settled: str
    """A 0 or 1 for each row number from 0 to MAX_ROWS, these results included."""
    first_row: int | None
    """None when every row had settled before."""
    results: str | None
    """JSON of those of rows that had not, in row order."""


def fold(events: Iterable[Foldable]) -> Fold:
    """Order and repetition don't matter: the first result of a row that the table takes is the one
    that counts.

    Of two imports of one job, too: ingest may have appended it twice, the second time after a
    crash.
    """
    batch = Fold()
    imported: set[UUID] = set()
    for event in events:
        if isinstance(event, ImportAccepted | ImportRejected):
            if event.job_id not in imported:
                imported.add(event.job_id)
                batch.jobs[event.job_id] = _known_by_import(event)
        elif isinstance(event, CompressedUpload):
            about = event.about
            row = (about.job_id, about.workspace_id, about.format.value, about.size, event.content)
            if row[:2] not in batch.uploads:
                batch.uploads[row[:2]] = row
                batch.upload_bytes += len(event.content)
        else:
            batch.jobs.setdefault(event.job_id, _known_by_outcomes(event))
            batch.results[event.job_id] += event.results
    return batch


def tally(settled: str, results: Iterable[RowResult]) -> Tally:
    """Of several results of a row the first counts, and none if it is among those that `settled`
    has a 1 for.
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
        return Tally(*added, settled, None, None)
    fresh.sort(key=attrgetter("row_number"))
    return Tally(
        *added, f"{bits:0{len(settled)}b}"[::-1], fresh[0].row_number, encode_results(fresh)
    )


def weight(event: Foldable) -> int:
    """Returns how many rows of a table it becomes, or costs as much as."""
    match event:
        case ImportAccepted() | ImportRejected():
            return 1
        case CompressedUpload(content=content):
            return 1 + len(content) // BYTES_PER_ROW
        case RowsSettled(results=results):
            return len(results)


def _known_by_outcomes(event: RowsSettled) -> tuple[Any, ...]:
    return (event.job_id, event.workspace_id, *(None,) * 8)


def _known_by_import(event: ImportAccepted | ImportRejected) -> tuple[Any, ...]:
    particulars: tuple[str | None, str | None, str | None]
    if isinstance(event, ImportAccepted):
        warnings = encode(event.warnings).decode() if event.warnings else None
        total, particulars = event.total_rows, (warnings, None, None)
    else:
        total, particulars = 0, (None, event.error_code, event.error_message)
    source = (event.source_type.value, event.source_filename, event.request_id)
    return (event.job_id, event.workspace_id, event.accepted_at, total, *source, *particulars)

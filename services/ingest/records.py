"""Builds an import's record batch from its parsed rows, for imports by HTTP and by topic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import NamedTuple

import cramjam
from msgspec.structs import replace

from services.ingest.model import Import
from shared.contract.events import (
    FileUploaded,
    ImportAccepted,
    ImportRejected,
    OnExisting,
    RowResult,
    RowsSettled,
)
from shared.contract.import_limits import MAX_RESULTS_BYTES
from shared.contract.wire import encode
from shared.kafka.records import Record

ZSTD_LEVEL = 1
"""Level 1 compresses 215 kB of JSON to 38 kB in 0.8 µs a row. Level 3 takes twice as long and saves
nothing.
"""
MAX_SHORTENED_MESSAGE_LENGTH = 300
"""Maximum characters of a failed row's message if many long results must fit into one record."""


@dataclass(frozen=True, slots=True)
class ImportBatch:
    """The records of one import, in the order in which they are written.

    The import is first, then the results of failed rows, the upload and finally the valid rows. The
    status service needs no valid rows and stops reading at the first of them.
    """

    key: bytes
    records: Sequence[Record]
    row_count: int
    """The number of records that are valid rows."""


class PreparedImport(NamedTuple):
    """An import that is ready to be appended."""

    event: ImportAccepted
    """The batch's first record."""
    batch: ImportBatch

    @property
    def failed_rows(self) -> int:
        return self.event.total_rows - self.batch.row_count


def build_batch(accepted: Import) -> ImportBatch:
    """Builds the batch of an accepted import."""
    return prepare_import(accepted).batch


def prepare_import(accepted: Import) -> PreparedImport:
    """Builds the batch of an accepted import, with its first event."""
    key, headers = str(accepted.job_id).encode(), list(accepted.replay_headers)
    rows = list(build_row_events(accepted))
    values = [*_build_results_event(accepted), *_build_upload_event(accepted), *rows]
    following = [Record(key, value, headers) for value in values]
    event = ImportAccepted(
        batch_records=1 + len(following),
        job_id=accepted.job_id,
        workspace_id=accepted.workspace_id,
        source_type=accepted.source_type,
        source_filename=accepted.source_filename,
        total_rows=accepted.rows.total,
        accepted_at=accepted.accepted_at,
        request_id=accepted.request_id,
        warnings=accepted.rows.warnings,
        publishing_now=accepted.rows.publishing_now,
        scheduled_for_later=accepted.rows.scheduled_for_later,
        parent_id=accepted.parent_id,
    )
    records = [Record(key, encode(event), headers), *following]
    return PreparedImport(event, ImportBatch(key, records, len(rows)))


def build_rejection_batch(rejected: ImportRejected) -> ImportBatch:
    """Builds the batch of a request that becomes a failed job without rows."""
    key = str(rejected.job_id).encode()
    return ImportBatch(key, [Record(key, encode(rejected))], 0)


def build_row_events(accepted: Import) -> Iterator[bytes]:
    """Builds the RowAccepted events from bytes: one envelope and the rows as validation wrote them.

    Serializing a struct for each row would double the cost.
    """
    # Left out for `report`, as in nearly all imports: the rows of older imports don't have it
    on_existing = (
        b""
        if accepted.on_existing is OnExisting.REPORT
        else b'"on_existing":"%b",' % accepted.on_existing.encode()
    )
    envelope = (
        b'{"kind":"r","version":1,"job_id":"%b","workspace_id":"%b",'
        b'"accepted_at":"%b",%b"row_number":'
        % (
            str(accepted.job_id).encode(),
            str(accepted.workspace_id).encode(),
            accepted.accepted_at.astimezone(UTC).isoformat().encode(),
            on_existing,
        )
    )
    for row in accepted.rows.valid:
        number = b"%d" % row.row_number
        if row.line is not None:
            number = b'%b,"line":%d' % (number, row.line)
        yield b'%b%b,"fingerprint":"%b","row":%b}' % (
            envelope,
            number,
            row.fingerprint,
            row.content,
        )


def _build_results_event(accepted: Import) -> list[bytes]:
    """Builds one RowsSettled event for all rows that failed validation, if there are any."""
    if not accepted.rows.failed:
        return []
    settled = RowsSettled(
        job_id=accepted.job_id,
        workspace_id=accepted.workspace_id,
        results=_fit_results(accepted.rows.failed),
    )
    return [encode(settled)]


def _fit_results(failed: list[RowResult]) -> list[RowResult]:
    """Returns the results. Shortens each to an equal share if together they are too large."""
    if len(encode(failed)) <= MAX_RESULTS_BYTES:
        return failed
    share = MAX_RESULTS_BYTES // len(failed)
    return [_shorten(result, share) for result in failed]


def _shorten(result: RowResult, size: int) -> RowResult:
    """Keeps as many of the result's first faults as fit into `size` bytes of JSON."""
    if len(encode(result)) <= size:
        return result
    message = result.error_message and result.error_message[:MAX_SHORTENED_MESSAGE_LENGTH]
    bare = replace(result, errors=None, error_message=message)
    kept, free_bytes = [], size - len(encode(bare)) - len(',"errors":[]')
    for fault in result.errors or ():
        free_bytes -= len(encode(fault)) + 1
        if free_bytes < 0:
            break
        kept.append(fault)
    return replace(bare, errors=kept or None)


def _build_upload_event(accepted: Import) -> list[bytes]:
    """Builds the FileUploaded event, if the upload is kept."""
    upload = accepted.upload
    if upload is None:
        return []
    event = FileUploaded(
        job_id=accepted.job_id,
        workspace_id=accepted.workspace_id,
        format=upload.format,
        size=len(upload.data),
        parameters=upload.parameters,
    )
    return [
        b"%b\n%b"
        % (
            encode(event),
            bytes(cramjam.zstd.compress(upload.data, ZSTD_LEVEL)),
        )
    ]

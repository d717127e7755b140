"""Accepts imports by HTTP: parses them, builds their record batches and appends these.

An import is accepted only when Kafka has acknowledged it (invariant 1 in
docs/explanation/architecture.md).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import NamedTuple, Protocol
from uuid import UUID

from services.ingest.admission.control import AdmissionControl
from services.ingest.admission.queue import ImportQueue, ImportSlot
from services.ingest.admission.recent_imports import RecentImports
from services.ingest.ids import build_job_path, new_job_id
from services.ingest.model import Import, ImportEnd, RawUpload
from services.ingest.parsing.policy import ImportParameters
from services.ingest.parsing.reading import RawTable
from services.ingest.parsing.rows import ParsedRows, require_row_count, require_rows
from services.ingest.reader import AllowList, ImportReader, ReadingScope
from services.ingest.records import ImportBatch, build_batch
from shared.contract.errors import (
    AcceptanceUnknown,
    ApiError,
    ErrorCode,
    Overloaded,
    Unavailable,
)
from shared.contract.events import SourceType, UploadFormat
from shared.contract.pins import make_printable
from shared.contract.strict_json import parse_json
from shared.runtime import metrics
from shared.spreadsheets.table import read_csv

MAX_FILENAME_LENGTH = 255
"""Characters of a file name that the job keeps."""
MAX_EVENT_LOOP_BYTES = 1024 * 1024
"""Larger JSON imports are parsed in a thread. On the event loop, parsing takes 6 ms for 500 usual
rows (160 kB), 9 ms for this size and 45 ms for 5 MiB. A thread adds 0.1 ms to one import. With
eight imports at once, threads compete for the interpreter and add a fifth to the latency (p50 55 →
67 ms).
"""
MAX_SLOT_SECONDS = 0.1
"""Maximum seconds that an append keeps its import's slot. An append usually takes 5 to 50 ms. On a
partition without a leader it takes the whole deadline, and imports of other partitions must not
wait for that.
"""
DEFAULT_PARAMETERS = ImportParameters()


class ImportStart(NamedTuple):
    """The slot of an import and the time when it arrived, in the event loop's time."""

    started_at: float
    slot: ImportSlot


class ImportLog(Protocol):
    """Writes accepted imports. services.ingest.import_log.KafkaImportLog implements it."""

    async def append(self, batch: ImportBatch, started: float | None = None, /) -> ImportEnd | None:
        """Writes the import completely and returns its end. Raises BrokerUnavailable,
        AcceptanceUnknown.
        """


class ImportService:
    """Accepts imports that were sent over HTTP.

    Raises ApiError, for example Overloaded while the backlog is full, and BrokerUnavailable if
    Kafka does not have the import. After the ApiError `acceptance_unknown` the import
    may have been accepted. After the other errors it was not.
    """

    def __init__(
        self,
        import_log: ImportLog,
        admission: AdmissionControl,
        queue: ImportQueue,
        reader: ImportReader,
        *,
        keep_uploads: bool,
    ) -> None:
        self.recent_imports = RecentImports()
        self._import_log = import_log
        self._keep_uploads = keep_uploads
        self._admission = admission
        self._queue = queue
        self._reader = reader
        # Prometheus sees no increase when a counter appears with its first event
        for source in ("http", "topic"):
            for reason in ("workspace", "system", "waiting"):
                metrics.IMPORTS_REFUSED.labels(source, reason)

    def require_capacity(self, workspace_id: UUID) -> None:
        """Refuses an import before its body is read. Raises Overloaded."""
        with _count_refusals():
            self._admission.require_capacity(workspace_id)
            self._queue.require_queue_capacity(workspace_id)

    async def accept_json(
        self,
        workspace_id: UUID,
        body: bytes,
        parameters: ImportParameters = DEFAULT_PARAMETERS,
        account_ids: AllowList = None,
    ) -> Import:
        """Accepts the body of a JSON import."""

        def parse() -> RawTable:
            return RawTable(require_rows(parse_json(body)))

        upload = RawUpload(UploadFormat.JSON, body) if self._keep_uploads else None
        scope = ReadingScope(workspace_id, datetime.now(UTC), parameters, account_ids)
        async with self._slot(workspace_id) as start:
            return await self._accept(
                *await self._reader.read(
                    parse,
                    scope,
                    partial(_build_import, scope, SourceType.JSON, None, upload),
                    in_thread=len(body) > MAX_EVENT_LOOP_BYTES,
                ),
                start,
            )

    async def accept_csv(
        self,
        workspace_id: UUID,
        data: bytes,
        filename: str | None,
        parameters: ImportParameters = DEFAULT_PARAMETERS,
        account_ids: AllowList = None,
    ) -> Import:
        """Accepts a CSV file."""
        name = make_printable(filename, MAX_FILENAME_LENGTH) if filename else None
        upload = RawUpload(UploadFormat.CSV, data) if self._keep_uploads else None
        scope = ReadingScope(workspace_id, datetime.now(UTC), parameters, account_ids)
        async with self._slot(workspace_id) as start:
            return await self._accept(
                *await self._reader.read(
                    partial(_parse_csv, data, parameters),
                    scope,
                    partial(_build_import, scope, SourceType.CSV, name, upload),
                    # Always in a thread, because 5 MiB of blank lines take half a second
                    in_thread=True,
                ),
                start,
            )

    @asynccontextmanager
    async def _slot(self, workspace_id: UUID) -> AsyncIterator[ImportStart]:
        """Waits for a slot. The deadlines of the append include this wait."""
        started = asyncio.get_running_loop().time()
        with _count_refusals():
            async with self._queue.slot(workspace_id) as slot:
                # Earlier imports may have filled the backlog, and parsing is expensive
                self._admission.require_capacity(workspace_id)
                yield ImportStart(started, slot)

    async def _accept(self, parsed: Import, batch: ImportBatch, start: ImportStart) -> Import:
        self.recent_imports.add(parsed.job_id)
        try:
            with self._admission.reserve(
                parsed.workspace_id, len(parsed.rows.valid)
            ) as reservation:
                reservation.import_end = await self._append(batch, start)
        except AcceptanceUnknown as error:
            metrics.IMPORTS.labels(parsed.source_type, "unknown").inc()
            raise _acceptance_unknown(parsed.job_id) from error
        except Overloaded:
            self.recent_imports.remove(parsed.job_id)
            raise
        except Unavailable:
            self.recent_imports.remove(parsed.job_id)
            metrics.IMPORTS.labels(parsed.source_type, "unavailable").inc()
            raise
        count_accepted(parsed.source_type, failed_rows=len(parsed.rows.failed))
        return parsed

    async def _append(self, batch: ImportBatch, start: ImportStart) -> ImportEnd | None:
        """Appends the batch. Releases its slot early if the append is slow."""
        appending = asyncio.create_task(self._import_log.append(batch, start.started_at))
        try:
            await asyncio.wait({appending}, timeout=MAX_SLOT_SECONDS)
            if not appending.done():
                start.slot.release_early()
            return await appending
        except BaseException:
            appending.cancel()
            raise


def _parse_csv(data: bytes, parameters: ImportParameters) -> RawTable:
    table = read_csv(
        data,
        encoding=parameters.encoding,
        keep_unknown=parameters.strict,
        optional=() if parameters.account is None else ("account_id",),
    )
    require_row_count(table.row_count)
    return RawTable(
        [row.values for row in table.rows], [row.line for row in table.rows], table.warnings
    )


def _build_import(
    scope: ReadingScope,
    source_type: SourceType,
    filename: str | None,
    upload: RawUpload | None,
    rows: ParsedRows,
) -> tuple[Import, ImportBatch]:
    accepted = Import(
        new_job_id(scope.accepted_at),
        scope.workspace_id,
        scope.accepted_at,
        source_type,
        filename,
        rows,
        upload=upload,
    )
    return accepted, build_batch(accepted)


@contextmanager
def _count_refusals() -> Iterator[None]:
    try:
        yield
    except Overloaded as overloaded:
        count_refused("http", overloaded)
        raise


def count_refused(source: str, overloaded: Overloaded) -> None:
    """Counts a refused import in the metrics. `source` is "http" or "topic"."""
    metrics.IMPORTS_REFUSED.labels(source, overloaded.details["reason"]).inc()


def count_accepted(source: str, *, failed_rows: int) -> None:
    """Counts an accepted import and its failed rows in the metrics."""
    metrics.IMPORTS.labels(source, "accepted").inc()
    metrics.ROWS_SETTLED.labels("ingest", "failed").inc(failed_rows)


def _acceptance_unknown(job_id: UUID) -> ApiError:
    location = build_job_path(job_id)
    message = (
        "Kafka did not confirm the import in time. "
        "It was accepted completely or not at all, and may take some minutes to appear: "
        f"check {location} before you retry."
    )
    headers = {"Location": location, "Retry-After": "2"}
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return ApiError(
        ErrorCode.ACCEPTANCE_UNKNOWN,
        message,
        status,
        headers=headers,
        job_id=str(job_id),
        location=location,
    )

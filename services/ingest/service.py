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
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from services.ingest.admission.control import AdmissionControl
from services.ingest.admission.queue import ImportQueue, ImportSlot
from services.ingest.admission.recent_imports import RecentImports
from services.ingest.ids import build_job_path, new_job_id
from services.ingest.model import Import, ImportEnd, RawUpload
from services.ingest.parsing.csv import parse_csv
from services.ingest.parsing.rows import fail_forbidden_accounts, require_rows, validate
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
MAX_PARSER_THREADS = 2
"""Imports that are parsed in threads at once. Each delays every iteration of the event loop by up
to 5 ms, the interpreter's switch interval.
"""

AllowList: TypeAlias = frozenset[UUID] | None
"""The accounts that an API key may publish to; None means all."""


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
        *,
        keep_uploads: bool,
    ) -> None:
        self.recent_imports = RecentImports()
        self._import_log = import_log
        self._keep_uploads = keep_uploads
        self._admission = admission
        self._queue = queue
        self._parser_threads = asyncio.Semaphore(MAX_PARSER_THREADS)
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
        self, workspace_id: UUID, body: bytes, *, strict: bool, account_ids: AllowList = None
    ) -> Import:
        """Accepts the body of a JSON import."""
        parse = partial(
            _parse_json_import,
            workspace_id,
            body,
            strict=strict,
            account_ids=account_ids,
            keep_upload=self._keep_uploads,
        )
        async with self._slot(workspace_id) as start:
            if len(body) <= MAX_EVENT_LOOP_BYTES:
                return await self._accept(*parse(), start)
            async with self._parser_threads:
                parsed, batch = await asyncio.to_thread(parse)
            return await self._accept(parsed, batch, start)

    async def accept_csv(
        self,
        workspace_id: UUID,
        data: bytes,
        filename: str | None,
        *,
        strict: bool,
        account_ids: AllowList = None,
    ) -> Import:
        """Accepts a CSV file."""
        keep = self._keep_uploads
        parse = partial(
            _parse_csv_import,
            workspace_id,
            data,
            filename,
            strict=strict,
            account_ids=account_ids,
            keep_upload=keep,
        )
        async with self._slot(workspace_id) as start:
            # Always in a thread, because 5 MiB of blank lines take half a second
            async with self._parser_threads:
                parsed, batch = await asyncio.to_thread(parse)
            return await self._accept(parsed, batch, start)

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


def _parse_json_import(
    workspace_id: UUID, body: bytes, *, strict: bool, account_ids: AllowList, keep_upload: bool
) -> tuple[Import, ImportBatch]:
    rows = validate(require_rows(parse_json(body)), strict=strict)
    if account_ids is not None:
        rows = fail_forbidden_accounts(rows, account_ids)
    now = datetime.now(UTC)
    upload = RawUpload(UploadFormat.JSON, body) if keep_upload else None
    parsed = Import(new_job_id(now), workspace_id, now, SourceType.JSON, None, rows, upload=upload)
    return parsed, build_batch(parsed)


def _parse_csv_import(
    workspace_id: UUID,
    data: bytes,
    filename: str | None,
    *,
    strict: bool,
    account_ids: AllowList,
    keep_upload: bool,
) -> tuple[Import, ImportBatch]:
    table = parse_csv(data)
    rows = validate(table.rows, strict=strict)
    if account_ids is not None:
        rows = fail_forbidden_accounts(rows, account_ids)
    now = datetime.now(UTC)
    name = make_printable(filename, MAX_FILENAME_LENGTH) if filename else None
    upload = RawUpload(UploadFormat.CSV, data) if keep_upload else None
    parsed = Import(
        new_job_id(now),
        workspace_id,
        now,
        SourceType.CSV,
        name,
        rows,
        table.warnings,
        upload=upload,
    )
    return parsed, build_batch(parsed)


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

"""Accepts imports by HTTP: parses them, builds their record batches and appends these.

An import is accepted only when Kafka has acknowledged it (invariant 1 in
docs/explanation/architecture.md).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from services.ingest.admission.control import AdmissionControl
from services.ingest.admission.queue import ImportQueue, ImportSlot
from services.ingest.admission.recent_imports import RecentImports
from services.ingest.ids import build_job_path, new_job_id
from services.ingest.model import AcceptedImport, Import, ImportEnd
from services.ingest.parsing.rows import ParsedRows
from services.ingest.reader import ImportReader
from services.ingest.records import ImportBatch, PreparedImport, prepare_import
from services.ingest.submissions import ImportSubmission
from shared.contract.errors import (
    AcceptanceUnknown,
    ApiError,
    ErrorCode,
    Overloaded,
    Unavailable,
)
from shared.runtime import metrics

T = TypeVar("T")

MAX_SLOT_SECONDS = 0.1
"""Maximum seconds that an append keeps its import's slot. An append usually takes 5 to 50 ms. On a
partition without a leader it takes the whole deadline, and imports of other partitions must not
wait for that.
"""


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

    async def accept(self, submission: ImportSubmission) -> AcceptedImport:
        """Accepts an import without an idempotency key."""
        now = datetime.now(UTC)
        async with self.slot(submission.workspace_id) as start:
            prepared = await self.read(submission, new_job_id(now), now, prepare_import)
            try:
                await self.append(prepared, start)
            except AcceptanceUnknown as error:
                advice = "check {location} before you retry."
                raise build_acceptance_unknown(prepared.event.job_id, advice) from error
        return AcceptedImport(prepared.event)

    async def read(
        self,
        submission: ImportSubmission,
        job_id: UUID,
        accepted_at: datetime,
        build: Callable[[Import], T],
    ) -> T:
        """Reads the rows and builds a result from the import. The caller holds a slot."""

        def build_from_rows(rows: ParsedRows) -> T:
            return build(
                submission.build_import(job_id, accepted_at, rows, keep_upload=self._keep_uploads)
            )

        return await self._reader.read(
            partial(submission.parse, accepted_at),
            submission.build_scope(accepted_at),
            build_from_rows,
            in_thread=submission.in_thread,
        )

    @asynccontextmanager
    async def slot(self, workspace_id: UUID) -> AsyncIterator[ImportStart]:
        """Waits for a slot. The deadlines of the append include this wait."""
        started = asyncio.get_running_loop().time()
        with _count_refusals():
            async with self._queue.slot(workspace_id) as slot:
                # Earlier imports may have filled the backlog, and parsing is expensive
                self._admission.require_capacity(workspace_id)
                yield ImportStart(started, slot)

    async def append(
        self, prepared: PreparedImport, start: ImportStart, *, is_first_try: bool = True
    ) -> None:
        """Appends the import. Raises Overloaded, BrokerUnavailable, AcceptanceUnknown.

        `is_first_try` is false if an earlier append of the import may have succeeded.
        """
        event, batch = prepared
        self.recent_imports.add(event.job_id)
        try:
            with self._admission.reserve(event.workspace_id, batch.row_count) as reservation:
                reservation.import_end = await wait_in_slot(
                    self._import_log.append(batch, start.started_at), start.slot
                )
        except AcceptanceUnknown:
            metrics.IMPORTS.labels(event.source_type, "unknown").inc()
            raise
        except (Overloaded, Unavailable) as error:
            if is_first_try:
                self.recent_imports.remove(event.job_id)
            if isinstance(error, Unavailable):
                metrics.IMPORTS.labels(event.source_type, "unavailable").inc()
            raise
        count_accepted(event.source_type, failed_rows=prepared.failed_rows)


async def wait_in_slot(work: Coroutine[Any, Any, T], slot: ImportSlot) -> T:
    """Waits for the work. Releases the import's slot early if the work is slow."""
    working = asyncio.create_task(work)
    try:
        await asyncio.wait({working}, timeout=MAX_SLOT_SECONDS)
        if not working.done():
            slot.release_early()
        return await working
    except BaseException:
        working.cancel()
        raise


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


def build_acceptance_unknown(job_id: UUID, advice: str) -> ApiError:
    """Builds the error for an import that Kafka did not confirm.

    The advice says what to do next. It may contain {location}, the path of the job.
    """
    location = build_job_path(job_id)
    message = (
        "Kafka did not confirm the import in time. "
        "It was accepted completely or not at all, and may take some minutes to appear: "
        f"{advice.format(location=location)}"
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

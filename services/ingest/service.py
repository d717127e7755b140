"""Accepts imports: parses, builds the batch, appends it. Accepted means durable (invariant 1)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from services.ingest.admission.backlog import EndPosition
from services.ingest.admission.limits import Admission
from services.ingest.admission.queue import ImportQueue, ImportSlot
from services.ingest.admission.recent_imports import RecentImports
from services.ingest.ids import build_job_path, new_job_id
from services.ingest.parsing.csv import parse_csv
from services.ingest.parsing.rows import keep_permitted, require_rows, validate
from services.ingest.records import Import, ImportBatch, RawUpload, build_batch
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

MAX_FILENAME = 255
MAX_EVENT_LOOP_BYTES = 1024 * 1024
"""Bytes of a JSON import that is parsed on the event loop: 6 ms for 500 usual rows (160 kB), 9 ms
for this much; 5 MiB take 45 ms. A thread costs 0.1 ms for one alone, and with eight at once a fifth
of the latency (p50 55 → 67 ms), as they wrestle for the interpreter.
"""
MAX_SLOT_SECONDS = 0.1
"""How long an append keeps its import's slot. It takes 5 to 50 ms; on a partition without a leader
it takes the whole deadline, and would keep imports of other partitions waiting.
"""
MAX_PARSER_THREADS = 2
"""Imports parsed in threads at once.

Each takes up to 5 ms, the interpreter's switch interval, from every turn of the event loop.
"""


AllowList: TypeAlias = frozenset[UUID] | None
"""The accounts that a key may publish to; None for all."""


class ImportStart(NamedTuple):
    """Keeps when an import began, in the event loop's time, and its slot."""

    started_at: float
    slot: ImportSlot


class ImportLog(Protocol):
    """Writes accepted imports; the real one is Acceptance."""

    async def append(
        self, batch: ImportBatch, started: float | None = None, /
    ) -> EndPosition | None:
        """Writes the import whole and returns where its rows end.

        Raises BrokerUnavailable, AcceptanceUnknown.
        """


class ImportService:
    """What HTTP asks for.

    Raises ApiError (Overloaded, when there is no room), or BrokerUnavailable when nothing was
    accepted.
    """

    def __init__(
        self, import_log: ImportLog, admission: Admission, queue: ImportQueue, *, keep_uploads: bool
    ) -> None:
        self.recent = RecentImports()
        self._import_log = import_log
        self._keep_uploads = keep_uploads
        self._admission = admission
        self._queue = queue
        self._parser_threads = asyncio.Semaphore(MAX_PARSER_THREADS)
        for source in (
            "http",
            "topic",
        ):  # from the start: of a counter that has just appeared Prometheus sees no rise
            for reason in ("workspace", "system", "waiting"):
                metrics.IMPORTS_REFUSED.labels(source, reason)

    def require_capacity(self, workspace_id: UUID) -> None:
        """Before a body is read, and parsed in vain. Raises Overloaded."""
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
                accepted, batch = await asyncio.to_thread(parse)
            return await self._accept(accepted, batch, start)

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
            # Always in a thread: 5 MiB of blank lines are half a second's work
            async with self._parser_threads:
                accepted, batch = await asyncio.to_thread(parse)
            return await self._accept(accepted, batch, start)

    @asynccontextmanager
    async def _slot(self, workspace_id: UUID) -> AsyncIterator[ImportStart]:
        """Gives the time from which the deadlines of the append count."""
        started = asyncio.get_running_loop().time()
        with _count_refusals():
            async with self._queue.slot(workspace_id) as slot:
                self._admission.require_capacity(
                    workspace_id
                )  # again: those before it in its line may have filled it. Parsing is dear
                yield ImportStart(started, slot)

    async def _accept(self, accepted: Import, batch: ImportBatch, start: ImportStart) -> Import:
        self.recent.add(accepted.job_id)
        try:
            with self._admission.reserve(
                accepted.workspace_id, len(accepted.rows.valid)
            ) as reservation:
                reservation.position = await self._append(batch, start)
        except AcceptanceUnknown as error:
            metrics.IMPORTS.labels(accepted.source_type, "unknown").inc()
            raise _acceptance_unknown(accepted.job_id) from error
        except Overloaded:
            self.recent.remove(accepted.job_id)
            raise
        except Unavailable:
            self.recent.remove(accepted.job_id)
            metrics.IMPORTS.labels(accepted.source_type, "unavailable").inc()
            raise
        count_accepted(accepted.source_type, failed_rows=len(accepted.rows.failed))
        return accepted

    async def _append(self, batch: ImportBatch, start: ImportStart) -> EndPosition | None:
        """Appends the batch; releases its slot early if that takes long."""
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
        rows = keep_permitted(rows, account_ids)
    now = datetime.now(UTC)
    upload = RawUpload(UploadFormat.JSON, body) if keep_upload else None
    accepted = Import(
        new_job_id(now), workspace_id, now, SourceType.JSON, None, rows, upload=upload
    )
    return accepted, build_batch(accepted)


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
        rows = keep_permitted(rows, account_ids)
    now = datetime.now(UTC)
    name = make_printable(filename, MAX_FILENAME) if filename else None
    upload = RawUpload(UploadFormat.CSV, data) if keep_upload else None
    accepted = Import(
        new_job_id(now),
        workspace_id,
        now,
        SourceType.CSV,
        name,
        rows,
        table.warnings,
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
    metrics.IMPORTS_REFUSED.labels(source, overloaded.details["reason"]).inc()


def count_accepted(source: str, *, failed_rows: int) -> None:
    metrics.IMPORTS.labels(source, "accepted").inc()
    metrics.ROWS_SETTLED.labels("ingest", "failed").inc(failed_rows)


def _acceptance_unknown(job_id: UUID) -> ApiError:
    location = build_job_path(job_id)
    message = (
        "Kafka did not confirm the import in time. "
        "It is accepted completely or not at all, perhaps only minutes from now. "
        f"Check {location} before you retry."
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

"""Accepting an import: parse, build, commit. Accepted means durable (invariant 1)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Protocol, TypeAlias
from uuid import UUID

from services.ingest.admission import Admission
from services.ingest.identity import new_job_id
from services.ingest.parsing import ParsedRows, keep_permitted, require_rows, validate
from services.ingest.service import Import, Records, records_of
from services.ingest.tabular import parse_csv
from services.ingest.turns import Turns
from services.ingest.unsettled import Position
from shared import metrics
from shared.bodies import parse_json
from shared.errors import AcceptanceUnknown, ErrorCode, Overloaded, RequestRefused, Unavailable
from shared.events import SourceType
from shared.pins import printable

MAX_FILENAME = 255
LONGEST_ON_THE_LOOP = 1024 * 1024
"""Bytes of a JSON import that is parsed on the event loop: 6 ms for 500 usual rows (160 kB), 9 ms for this much; 5 MiB take 45 ms.
A thread costs 0.1 ms for one alone, and with eight at once a fifth of the latency (p50 55 → 67 ms), as they wrestle for the interpreter."""
THREADS = 2
"""Imports parsed in threads at once. Each takes up to 5 ms, the interpreter's switch interval, from every turn of the event loop."""


AllowList: TypeAlias = frozenset[UUID] | None
"""The accounts that a key may publish to; None for all."""


class Commits(Protocol):
    async def commit(self, records: Records, started: float | None = None, /) -> Position | None: ...


class Imports:
    """What HTTP asks for. Raises RequestRefused (Overloaded, when there is no room), or BrokerUnavailable when nothing was accepted."""

    def __init__(self, transactions: Commits, admission: Admission, turns: Turns) -> None:
        self._transactions = transactions
        self._admission = admission
        self._turns = turns
        self._threads = asyncio.Semaphore(THREADS)
        for source in ("http", "topic"):  # from the start: of a counter that has just appeared Prometheus sees no rise
            for reason in ("workspace", "system", "waiting"):
                metrics.IMPORTS_REFUSED.labels(source, reason)

    def require_room(self, workspace_id: UUID) -> None:
        """Before a body is read, and parsed in vain. Raises Overloaded."""
        with _refusals_counted():
            self._admission.require_room(workspace_id)
            self._turns.require_place(workspace_id)

    async def accept_json(self, workspace_id: UUID, body: bytes, *, strict: bool, account_ids: AllowList = None) -> Import:
        async with self._turn(workspace_id) as started:
            if len(body) <= LONGEST_ON_THE_LOOP:
                return await self._accept(*_from_json(workspace_id, body, strict=strict, account_ids=account_ids), started)
            async with self._threads:
                accepted, records = await asyncio.to_thread(_from_json, workspace_id, body, strict=strict, account_ids=account_ids)
            return await self._accept(accepted, records, started)

    async def accept_csv(
        self, workspace_id: UUID, data: bytes, filename: str | None, *, strict: bool, account_ids: AllowList = None
    ) -> Import:
        async with self._turn(workspace_id) as started:
            # Always in a thread: 5 MiB of blank lines are half a second's work
            async with self._threads:
                parsing = asyncio.to_thread(_from_csv, workspace_id, data, filename, strict=strict, account_ids=account_ids)
                accepted, records = await parsing
            return await self._accept(accepted, records, started)

    @asynccontextmanager
    async def _turn(self, workspace_id: UUID) -> AsyncIterator[float]:
        """Gives the time from which the deadlines of the commit count."""
        started = asyncio.get_running_loop().time()
        with _refusals_counted():
            async with self._turns.turn(workspace_id):
                self._admission.require_room(workspace_id)  # again: those before it in its line may have filled it. Parsing is dear
                yield started

    async def _accept(self, accepted: Import, records: Records, started: float) -> Import:
        try:
            with self._admission.room(accepted.workspace_id, len(accepted.rows.valid)) as place:
                place.position = await self._transactions.commit(records, started)
        except AcceptanceUnknown as error:
            metrics.IMPORTS.labels(accepted.source_type, "unknown").inc()
            raise _unknown(accepted.job_id) from error
        except Unavailable:
            metrics.IMPORTS.labels(accepted.source_type, "unavailable").inc()
            raise
        count_accepted(accepted.source_type, failed_rows=len(accepted.rows.failed))
        return accepted


def _from_json(workspace_id: UUID, body: bytes, *, strict: bool, account_ids: AllowList) -> tuple[Import, Records]:
    rows = _permitted(validate(require_rows(parse_json(body)), strict=strict), account_ids)
    now = datetime.now(UTC)
    accepted = Import(new_job_id(now), workspace_id, now, SourceType.JSON, None, rows)
    return accepted, records_of(accepted)


def _from_csv(workspace_id: UUID, data: bytes, filename: str | None, *, strict: bool, account_ids: AllowList) -> tuple[Import, Records]:
    table = parse_csv(data)
    rows = _permitted(validate(table.rows, strict=strict), account_ids)
    now = datetime.now(UTC)
    name = printable(filename, MAX_FILENAME) if filename else None
    accepted = Import(new_job_id(now), workspace_id, now, SourceType.CSV, name, rows, table.warnings)
    return accepted, records_of(accepted)


def _permitted(rows: ParsedRows, account_ids: AllowList) -> ParsedRows:
    return rows if account_ids is None else keep_permitted(rows, account_ids)


@contextmanager
def _refusals_counted() -> Iterator[None]:
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


def location_of(job_id: UUID) -> str:
    return f"/v1/pins/imports/{job_id}"


def _unknown(job_id: UUID) -> RequestRefused:
    location = location_of(job_id)
    message = f"Kafka fell silent at the last step: the import was accepted whole, or not at all. Look at {location} first."
    headers = {"Location": location, "Retry-After": "2"}
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return RequestRefused(ErrorCode.ACCEPTANCE_UNKNOWN, message, status, headers=headers, job_id=str(job_id), location=location)

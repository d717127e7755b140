"""Accepting an import: parse, build, commit. Accepted means durable (invariant 1)."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

from services.ingest.identity import new_job_id
from services.ingest.parsing import require_rows, validate
from services.ingest.service import Import, TopicRecord, records_of
from services.ingest.tabular import parse_csv
from shared import metrics
from shared.bodies import parse_json
from shared.errors import AcceptanceUnknown, ErrorCode, RequestRefused, Unavailable
from shared.events import SourceType
from shared.pins import printable

MAX_FILENAME = 255


class Commits(Protocol):
    async def commit(self, records: list[TopicRecord]) -> None: ...


class Imports:
    """What HTTP asks for. Raises RequestRefused, or BrokerUnavailable when nothing was accepted."""

    def __init__(self, transactions: Commits) -> None:
        self._transactions = transactions

    async def accept_json(self, workspace_id: UUID, body: bytes, *, strict: bool) -> Import:
        rows = validate(require_rows(parse_json(body)), strict=strict)
        now = datetime.now(UTC)
        return await self._accept(Import(new_job_id(now), workspace_id, now, SourceType.JSON, None, rows))

    async def accept_csv(self, workspace_id: UUID, data: bytes, filename: str | None, *, strict: bool) -> Import:
        table = parse_csv(data)
        rows = validate(table.rows, strict=strict)
        now = datetime.now(UTC)
        name = printable(filename, MAX_FILENAME) if filename else None
        return await self._accept(Import(new_job_id(now), workspace_id, now, SourceType.CSV, name, rows, table.warnings))

    async def _accept(self, accepted: Import) -> Import:
        try:
            await self._transactions.commit(records_of(accepted))
        except AcceptanceUnknown as error:
            metrics.IMPORTS.labels(accepted.source_type, "unknown").inc()
            raise _unknown(accepted.job_id) from error
        except Unavailable:
            metrics.IMPORTS.labels(accepted.source_type, "unavailable").inc()
            raise
        count_accepted(accepted)
        return accepted


def count_accepted(accepted: Import) -> None:
    metrics.IMPORTS.labels(accepted.source_type, "accepted").inc()
    metrics.ROWS_SETTLED.labels("ingest", "failed").inc(len(accepted.rows.failed))


def location_of(job_id: UUID) -> str:
    return f"/v1/pins/imports/{job_id}"


def _unknown(job_id: UUID) -> RequestRefused:
    location = location_of(job_id)
    message = f"Kafka fell silent at the last step: the import was accepted whole, or not at all. Look at {location} first."
    headers = {"Location": location, "Retry-After": "2"}
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return RequestRefused(ErrorCode.ACCEPTANCE_UNKNOWN, message, status, headers=headers, job_id=str(job_id), location=location)

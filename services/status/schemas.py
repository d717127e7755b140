"""HTTP models with the fields of pinbridge-sdk 1.10.1. Fields that Pinflow adds come last."""

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel

from services.status.notices import build_notices
from services.status.results import hide_values
from shared.contract.events import (
    ExistingState,
    Fault,
    FieldDifference,
    JobStatus,
    Notice,
    RowStatus,
    SourceType,
)
from shared.postgres.row import Row


class RowResultResponse(BaseModel):
    row_number: int
    status: RowStatus
    pin_id: UUID | None
    schedule_id: UUID | None
    idempotency_key: str | None
    error_code: str | None
    error_message: str | None
    errors: list[Fault]
    payload_matches: bool | None
    line: int | None
    existing_state: ExistingState | None
    differing_fields: list[FieldDifference] | None


class ImportJobResponse(BaseModel):
    id: UUID
    workspace_id: UUID
    source_type: SourceType
    status: JobStatus
    source_filename: str | None
    total_rows: int
    processed_rows: int
    created_rows: int
    existing_rows: int
    failed_rows: int
    results: list[RowResultResponse]
    error_message: str | None
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    warnings: list[Notice]
    request_id: str | None
    error_code: str | None
    publishing_now: int | None
    scheduled_for_later: int | None


_STORED_FIELDS = (
    "workspace_id",
    "source_type",
    "status",
    "source_filename",
    "total_rows",
    "created_rows",
    "existing_rows",
    "failed_rows",
    "error_message",
    "started_at",
    "completed_at",
    "updated_at",
    "request_id",
    "error_code",
    "publishing_now",
    "scheduled_for_later",
)


def build_job_document(job: Row, *, with_values: bool = True) -> dict[str, Any]:
    """Builds an ImportJobResponse for orjson. The results are JSON already and are not encoded.

    Without `with_values`, the results name the differing fields, but not their values.
    """
    results = job.get("results") or b"[]"
    return {
        "id": job["job_id"],
        **{name: job[name] for name in _STORED_FIELDS},
        "processed_rows": job["created_rows"] + job["existing_rows"] + job["failed_rows"],
        "created_at": job["accepted_at"],
        "warnings": build_notices(job),
        "results": orjson.Fragment(results if with_values else hide_values(results)),
    }


class RootResponse(BaseModel):
    service: str
    version: str
    docs: str


class HealthResponse(BaseModel):
    status: str
    version: str
    environment: str
    checks: dict[str, str] | None


class ReadinessResponse(BaseModel):
    status: str
    version: str
    environment: str
    database: str
    checks: dict[str, str]

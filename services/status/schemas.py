"""HTTP models with the fields of pinbridge-sdk 1.10.1. Fields that Pinflow adds come last."""

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel

from shared.contract.events import Fault, JobStatus, Notice, RowStatus, SourceType
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
)


def build_job_document(job: Row) -> dict[str, Any]:
    """Builds an ImportJobResponse for orjson. The results are JSON already and are not encoded."""
    return {
        "id": job["job_id"],
        **{name: job[name] for name in _STORED_FIELDS},
        "processed_rows": job["created_rows"] + job["existing_rows"] + job["failed_rows"],
        "created_at": job["accepted_at"],
        "warnings": job["warnings"] or [],
        "results": orjson.Fragment(job.get("results") or "[]"),
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

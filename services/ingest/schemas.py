"""HTTP models, field by field those of pinbridge-sdk 1.10.1; what Pinflow adds stands at the end."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from services.ingest.service import Import
from shared.events import JobStatus, Notice, SourceType


class ImportAcceptedResponse(BaseModel):
    """The job as it is when it has been accepted: queued, with every row still to settle."""

    id: UUID
    workspace_id: UUID
    source_type: SourceType
    status: JobStatus = JobStatus.QUEUED
    source_filename: str | None
    total_rows: int
    processed_rows: int = 0
    created_rows: int = 0
    existing_rows: int = 0
    failed_rows: int = 0
    results: list[None] = []
    error_message: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    warnings: list[Notice]

    @classmethod
    def of(cls, accepted: Import) -> "ImportAcceptedResponse":
        return cls(
            id=accepted.job_id,
            workspace_id=accepted.workspace_id,
            source_type=accepted.source_type,
            source_filename=accepted.source_filename,
            total_rows=accepted.rows.total,
            created_at=accepted.accepted_at,
            updated_at=accepted.accepted_at,
            warnings=list(accepted.warnings),
        )

"""HTTP models with the fields of pinbridge-sdk 1.10.1. Fields that Pinflow adds come last."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import Field

from services.status.notices import build_notices
from shared.contract.events import JobStatus, Notice, SourceType
from shared.http.fields import CreatedAt, UpdatedAt, WorkspaceId
from shared.http.models import ApiModel
from shared.http.row_results import RowResultResponse, hide_values
from shared.postgres.row import Row


class UndoSummaryResponse(ApiModel):
    """The undo of an import, in numbers."""

    undone_at: datetime
    """When it was undone first, in UTC."""
    undone_rows: int
    """Rows whose pin or schedule was deleted or canceled, or whose pin is to be removed."""
    removing_rows: int
    """Rows of `undone_rows` whose pins are still to be removed from Pinterest."""
    left_rows: int
    """Rows whose pin or schedule was left. The undo says why."""


class ImportJobResponse(ApiModel):
    """An import and its progress.

    `processed_rows` is the sum of `created_rows`, `existing_rows` and `failed_rows`. The import has
    ended exactly when it equals `total_rows`, or when the whole import failed.
    """

    id: UUID
    """The job's id."""
    workspace_id: WorkspaceId
    source_type: SourceType
    status: JobStatus
    source_filename: str | None
    """The name of the uploaded file. Null for JSON, and for a file without a name."""
    total_rows: int
    """Rows in the import, at most 500. 0 if the whole import failed."""
    processed_rows: int
    """Rows that have a result."""
    created_rows: int
    """Rows that were published or scheduled."""
    existing_rows: int
    """Rows whose idempotency key already had a pin or a schedule."""
    failed_rows: int
    """Rows that failed. Their idempotency keys stay free."""
    results: list[RowResultResponse]
    """The results so far, in row order. Empty in a list of imports."""
    error_message: str | None
    """The reason why the whole import was refused, and what to do next. Otherwise null."""
    started_at: datetime | None
    """When the first row was settled, in UTC. Null until then."""
    completed_at: datetime | None
    """When the import ended, in UTC. Null until then."""
    created_at: CreatedAt
    updated_at: UpdatedAt
    warnings: list[Notice]
    """Everything that was ignored, repaired or guessed. Empty if nothing was."""
    request_id: str | None
    """The request id of an import that was requested by Kafka topic. Null for one over HTTP."""
    error_code: str | None
    """The error code of an import that failed as a whole. Otherwise null."""
    publishing_now: int | None
    """Valid rows that are published at once. Null for an import before this was counted."""
    scheduled_for_later: int | None
    """Valid rows that wait for their `run_at`. Null for an import before this was counted."""
    parent_id: UUID | None
    """The import whose failed rows this one sends again. Otherwise null."""
    error_counts: dict[str, int] | None
    """The number of failed rows for each error code. Null in a list of imports."""
    undo: UndoSummaryResponse | None = None
    """The undo of the import. Null if it was not undone, if the request does not have
    `include_undo=true`, if the publisher does not answer, and 45 days after the undo."""


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
    "parent_id",
)


def build_job_document(
    job: Row,
    *,
    with_values: bool = True,
    with_results: bool = True,
    undo: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Builds an ImportJobResponse for orjson. The results are JSON already and are not encoded.

    Without `with_values`, the results are as `hide_values` leaves them.
    """
    results = (job.get("results") if with_results else None) or b"[]"
    return {
        "id": job["job_id"],
        **{name: job[name] for name in _STORED_FIELDS},
        "processed_rows": job["created_rows"] + job["existing_rows"] + job["failed_rows"],
        "created_at": job["accepted_at"],
        "warnings": build_notices(job),
        "results": orjson.Fragment(results if with_values else hide_values(results)),
        "error_counts": job.get("error_counts"),
        "undo": undo,
    }


_Version = Annotated[str, Field(description="The version of Pinflow.")]
_Environment = Annotated[
    str, Field(description="The name that the operator gave the installation, for example `local`.")
]


class RootResponse(ApiModel):
    """The name and version of this API."""

    service: str
    """Always `pinflow`."""
    version: _Version
    docs: str
    """The path of this API's reference page."""


class HealthResponse(ApiModel):
    """The state of one process."""

    status: str
    """Always `ok`: a process that answers is up."""
    version: _Version
    environment: _Environment
    checks: dict[str, str] | None
    """Always null. `/readyz` has the checks."""


class ReadinessResponse(ApiModel):
    """The state of all services, Kafka and Postgres."""

    status: str
    """`ok`, `degraded` if only an optional service is down, otherwise `unavailable`."""
    version: _Version
    environment: _Environment
    database: str
    """The state of Postgres: `ok`, or what is wrong."""
    checks: dict[str, str]
    """The state of each part by its name: `ok`, or what is wrong."""

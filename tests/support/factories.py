"""Builds rows, events and results for tests. Every field has a default."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from services.publisher.rows.snapshot import RecordedOutcomes
from shared.contract.events import (
    ImportAccepted,
    RowAccepted,
    RowResult,
    RowsSettled,
    RowStatus,
    SourceType,
)
from shared.contract.pins import PinSubmission, compute_fingerprint

ACCOUNT = UUID("7b0f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d01")
BOARD = "549755813888000001"
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOTHING_RECORDED = RecordedOutcomes({}, {})


def submitted_row(**fields: Any) -> dict[str, Any]:
    """Builds a row as a client sends it. A field that is None is left out."""
    row = {
        "account_id": str(ACCOUNT),
        "board_id": BOARD,
        "title": "Autumn lamps",
        "description": "Warm light for long evenings",
        "link_url": "https://shop.example/lamps?season=autumn",
        "image_url": "https://cdn.example/lamps.jpg",
        "idempotency_key": f"key-{uuid4()}",
        **fields,
    }
    return {name: value for name, value in row.items() if value is not None}


def row_accepted(
    *,
    job_id: UUID | None = None,
    workspace_id: UUID | None = None,
    row_number: int = 1,
    accepted_at: datetime = NOON,
    **fields: Any,
) -> RowAccepted:
    submission = PinSubmission.model_validate(submitted_row(**fields))
    return RowAccepted(
        kind="r",
        job_id=job_id or uuid4(),
        workspace_id=workspace_id or uuid4(),
        row_number=row_number,
        accepted_at=accepted_at,
        fingerprint=compute_fingerprint(submission),
        row=submission.to_content(),
    )


def import_accepted(
    *,
    job_id: UUID | None = None,
    workspace_id: UUID | None = None,
    total_rows: int = 3,
    **fields: Any,
) -> ImportAccepted:
    return ImportAccepted(
        job_id=job_id or uuid4(),
        workspace_id=workspace_id or uuid4(),
        source_type=fields.pop("source_type", SourceType.JSON),
        total_rows=total_rows,
        accepted_at=fields.pop("accepted_at", NOON),
        **fields,
    )


def created_result(row_number: int = 1, **fields: Any) -> RowResult:
    return RowResult(
        row_number=row_number, status=RowStatus.CREATED, **{"pin_id": uuid4(), **fields}
    )


def failed_result(row_number: int = 1, **fields: Any) -> RowResult:
    error = {"error_code": "validation_error", "error_message": "title: is required"}
    return RowResult(row_number=row_number, status=RowStatus.FAILED, **{**error, **fields})


def rows_settled(job: ImportAccepted, *results: RowResult) -> RowsSettled:
    return RowsSettled(job_id=job.job_id, workspace_id=job.workspace_id, results=list(results))

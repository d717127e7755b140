"""HTTP of jobs: the publishing of one pin."""

from fastapi import APIRouter

from services.publisher.pins.dependencies import Publisher
from services.publisher.pins.schemas.pins import JobStatusResponse
from shared.access.dependencies import ReadAccess
from shared.contract.errors import not_found
from shared.http.app import NOT_FOUND, uuid_or_404

router = APIRouter(tags=["jobs"])


@router.get("/v1/jobs/{job_id}", responses=NOT_FOUND)
async def get_job(job_id: str, who: ReadAccess, publisher: Publisher) -> JobStatusResponse:
    """How far the publishing of a pin is. The job's id is the pin's, and there is one for each pin
    that `GET /v1/pins/{pin_id}` shows.

    Imports have jobs of their own: `GET /v1/pins/imports/{job_id}`.
    """
    row = await publisher.queries.pin(who.workspace_id, uuid_or_404(job_id, "Job"))
    if row is None or not who.permits(row["account_id"]):
        raise not_found("Job")
    return JobStatusResponse.of(row)

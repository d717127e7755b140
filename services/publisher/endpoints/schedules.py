"""HTTP of schedules: pins that are to be published later."""

from fastapi import APIRouter

from services.publisher.endpoints.ports import NOT_FOUND, Publisher
from services.publisher.identity import pin_id_of_schedule
from services.publisher.schemas.schedules import ScheduleResponse
from shared.access.dependencies import ReadAccess
from shared.errors import not_found
from shared.http import uuid_or_404

router = APIRouter(tags=["schedules"])


@router.get("/v1/schedules/{schedule_id}", responses=NOT_FOUND)
async def get_schedule(schedule_id: str, who: ReadAccess, publisher: Publisher) -> ScheduleResponse:
    pin_id = pin_id_of_schedule(uuid_or_404(schedule_id, "Schedule"))
    row = await publisher.queries.schedule(who.workspace_id, pin_id)
    if row is None:
        raise not_found("Schedule")
    return ScheduleResponse.of(row)

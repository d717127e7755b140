"""HTTP of schedules: pins that are to be published later."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from services.publisher.endpoints.ports import NOT_FOUND, Publisher
from services.publisher.filters import ScheduleFilters
from services.publisher.identity import pin_id_of_schedule
from services.publisher.schemas.schedules import ScheduleResponse
from shared.access.dependencies import ReadAccess
from shared.errors import not_found
from shared.http import uuid_or_404
from shared.lists.paging import PAGED, describe_page

router = APIRouter(tags=["schedules"])


@router.get("/v1/schedules", responses=PAGED)
async def list_schedules(
    request: Request, response: Response, who: ReadAccess, publisher: Publisher, asked: Annotated[ScheduleFilters, Query()]
) -> list[ScheduleResponse]:
    """What is to be published at a time, or was: the latest `run_at` first unless asked otherwise; nothing that was deleted.

    A page looks at no more than so many schedules (`PINFLOW_LIST_SCAN_LIMIT`): what would need more is refused (422 `search_too_wide`),
    with a `since` or `until` in `reached` by which it is answered.
    """
    page = await publisher.lists.schedules(who, asked)
    describe_page(request, response, asked, page)
    return [ScheduleResponse.of(row) for row in page.rows]


@router.get("/v1/schedules/{schedule_id}", responses=NOT_FOUND)
async def get_schedule(schedule_id: str, who: ReadAccess, publisher: Publisher) -> ScheduleResponse:
    pin_id = pin_id_of_schedule(uuid_or_404(schedule_id, "Schedule"))
    row = await publisher.queries.schedule(who.workspace_id, pin_id)
    if row is None:
        raise not_found("Schedule")
    return ScheduleResponse.of(row)

"""HTTP of pins: what is published, and publishing one."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from services.publisher.endpoints.ports import NOT_FOUND, Publisher
from services.publisher.filters import PinFilters
from services.publisher.schemas.pins import PinResponse
from shared.access.dependencies import ReadAccess, WriteAccess
from shared.bodies import parse_json, require_content_type
from shared.errors import not_found
from shared.http import OVERLOADED, UNREADABLE, refusals, uuid_or_404
from shared.lists.paging import PAGED, describe_page
from shared.pins import PinSubmission

router = APIRouter(tags=["pins"])

_PIN = PinSubmission.model_json_schema()
del _PIN["properties"]["run_at"]  # not looked at: a pin for a later time is a schedule
_PIN_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": _PIN}}}}

_PIN_LINK: dict[int | str, dict[str, Any]] = {
    HTTPStatus.CREATED: {"links": {"pin": {"operationId": "get_pin_v1_pins__pin_id__get", "parameters": {"pin_id": "$response.body#/id"}}}}
}


@router.post(
    "/v1/pins",
    status_code=HTTPStatus.CREATED,
    openapi_extra=_PIN_BODY,
    responses=OVERLOADED | UNREADABLE | refusals(HTTPStatus.CONFLICT) | _PIN_LINK,
)
async def create_pin(request: Request, response: Response, who: WriteAccess, publisher: Publisher) -> PinResponse:
    """Publish one pin now. The same key again answers the pin that stands, with `Idempotent-Replayed: true`."""
    require_content_type(request, "application/json")
    async with publisher.bodies.reading(request) as body:
        row, made = await publisher.pins.publish(who.workspace_id, parse_json(body))
    if not made:
        response.headers["Idempotent-Replayed"] = "true"
    return PinResponse.of(row, publisher.base_url)


@router.get("/v1/pins", responses=PAGED)
async def list_pins(
    request: Request, response: Response, who: ReadAccess, publisher: Publisher, asked: Annotated[PinFilters, Query()]
) -> list[PinResponse]:
    """What is published, failed or due, newest first unless asked otherwise; nothing that was deleted.

    A page looks at no more than so many pins (`PINFLOW_LIST_SCAN_LIMIT`): what would need more is refused (422 `search_too_wide`),
    with a `since` or `until` in `reached` by which it is answered.
    """
    page = await publisher.lists.pins(who, asked)
    describe_page(request, response, asked, page)
    return [PinResponse.of(row, publisher.base_url) for row in page.rows]


@router.get("/v1/pins/{pin_id}", responses=NOT_FOUND)
async def get_pin(pin_id: str, who: ReadAccess, publisher: Publisher) -> PinResponse:
    row = await publisher.queries.pin(who.workspace_id, uuid_or_404(pin_id, "Pin"))
    if row is None:
        raise not_found("Pin")
    return PinResponse.of(row, publisher.base_url)

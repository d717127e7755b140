"""HTTP of pins: what is published, and publishing one."""

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from services.publisher.endpoints.ports import NOT_FOUND, Limit, Offset, Publisher
from services.publisher.models import pins as table
from services.publisher.schemas.pins import PinResponse
from shared.access.dependencies import ReadAccess, WriteAccess
from shared.bodies import parse_json, require_content_type
from shared.errors import ErrorCode, RequestRefused, not_found
from shared.http import OVERLOADED, UNREADABLE, refusals, uuid_or_404
from shared.pins import PinSubmission

router = APIRouter(tags=["pins"])

FILTERS_TO_COME = {"status", "error_code", "since", "until", "q", "sort", "removed"}
"""What PinBridge's clients may ask for, and Pinflow can't answer yet."""

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


@router.get("/v1/pins")
async def list_pins(
    request: Request,
    response: Response,
    who: ReadAccess,
    publisher: Publisher,
    limit: Limit = 50,
    offset: Offset = 0,
    account_id: UUID | None = None,
    board_id: Annotated[str | None, Query(max_length=255, pattern=r"^[^\x00]*$")] = None,
) -> list[PinResponse]:
    """What is published or due, newest first; `X-Total-Count` has the number of all."""
    _refuse_filters_to_come(request)
    conditions = []
    if account_id is not None:
        conditions.append(table.c.account_id == account_id)
    if board_id is not None:
        conditions.append(table.c.board_id == board_id)
    rows, total = await publisher.queries.list_pins(who.workspace_id, limit=limit, offset=offset, conditions=conditions)
    response.headers["X-Total-Count"] = str(total)
    return [PinResponse.of(row, publisher.base_url) for row in rows]


def _refuse_filters_to_come(request: Request) -> None:
    # Ignored, they would answer with the wrong pins
    for name in FILTERS_TO_COME & request.query_params.keys():
        raise RequestRefused(ErrorCode.INVALID_PARAMETER, f"{name}: this filter is not supported yet.", parameter=name)


@router.get("/v1/pins/{pin_id}", responses=NOT_FOUND)
async def get_pin(pin_id: str, who: ReadAccess, publisher: Publisher) -> PinResponse:
    row = await publisher.queries.pin(who.workspace_id, uuid_or_404(pin_id, "Pin"))
    if row is None:
        raise not_found("Pin")
    return PinResponse.of(row, publisher.base_url)

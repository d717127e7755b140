"""HTTP of the publisher: single pins, what is published, what is scheduled, where to publish."""

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from services.publisher.config import PublisherSettings
from services.publisher.identity import pin_id_of_schedule
from services.publisher.models import pins as table
from services.publisher.pins import Pins
from services.publisher.repository import PinStore
from services.publisher.schemas import AccountResponse, BoardResponse, PinResponse, ScheduleResponse
from shared.access.dependencies import ReadAccess, WriteAccess
from shared.access.repository import AccessRepository
from shared.bodies import Bodies, parse_json, require_content_type
from shared.errors import ErrorCode, RequestRefused, not_found
from shared.http import NO_ACCESS, OVERLOADED, UNREADABLE, refusals, uuid_or_404
from shared.pins import PinSubmission

router = APIRouter(responses=NO_ACCESS)
NOT_FOUND = refusals(HTTPStatus.NOT_FOUND)
BODIES_AT_ONCE = 64 * 1024 * 1024
"""Bytes. As many bodies at their limit as there may be requests at once."""


class Ports:
    """What the endpoints work with; app.py puts it into app.state."""

    def __init__(self, settings: PublisherSettings, store: PinStore, pins: Pins, access: AccessRepository) -> None:
        self.base_url = settings.base_url
        at_once = max(BODIES_AT_ONCE, 2 * settings.pin_body_limit)
        self.bodies = Bodies(limit_bytes=settings.pin_body_limit, seconds=settings.body_seconds, at_once_bytes=at_once)
        self.store = store
        self.pins = pins
        self.access = access


async def _ports(request: Request) -> Ports:
    ports: Ports = request.app.state.ports
    return ports


Publisher = Annotated[Ports, Depends(_ports)]
Limit = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0, le=1_000_000)]


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
    tags=["pins"],
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


@router.get("/v1/pins", tags=["pins"])
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
    rows, total = await publisher.store.list_pins(who.workspace_id, limit=limit, offset=offset, conditions=conditions)
    response.headers["X-Total-Count"] = str(total)
    return [PinResponse.of(row, publisher.base_url) for row in rows]


def _refuse_filters_to_come(request: Request) -> None:
    # Ignored, they would answer with the wrong pins
    for name in FILTERS_TO_COME & request.query_params.keys():
        raise RequestRefused(ErrorCode.INVALID_PARAMETER, f"{name}: this filter is not supported yet.", parameter=name)


@router.get("/v1/pins/{pin_id}", tags=["pins"], responses=NOT_FOUND)
async def get_pin(pin_id: str, who: ReadAccess, publisher: Publisher) -> PinResponse:
    row = await publisher.store.pin(who.workspace_id, uuid_or_404(pin_id, "Pin"))
    if row is None:
        raise not_found("Pin")
    return PinResponse.of(row, publisher.base_url)


@router.get("/v1/schedules/{schedule_id}", tags=["schedules"], responses=NOT_FOUND)
async def get_schedule(schedule_id: str, who: ReadAccess, publisher: Publisher) -> ScheduleResponse:
    pin_id = pin_id_of_schedule(uuid_or_404(schedule_id, "Schedule"))
    row = await publisher.store.schedule(who.workspace_id, pin_id)
    if row is None:
        raise not_found("Schedule")
    return ScheduleResponse.of(row)


@router.get("/v1/pinterest/accounts", tags=["pinterest"])
async def list_accounts(who: ReadAccess, publisher: Publisher) -> list[AccountResponse]:
    return [AccountResponse.of(row) for row in await publisher.access.list_accounts(who.workspace_id)]


@router.get("/v1/pinterest/boards", tags=["pinterest"], responses=NOT_FOUND)
async def list_boards(account_id: str, who: ReadAccess, publisher: Publisher) -> list[BoardResponse]:
    rows = await publisher.access.list_boards(who.workspace_id, uuid_or_404(account_id, "Account"))
    if rows is None:
        raise not_found("Account")
    return [BoardResponse.of(row) for row in rows]

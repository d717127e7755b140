"""HTTP endpoints of schedules: pins that are to be published later."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from services.publisher.pins.dependencies import Publisher
from services.publisher.pins.lists.filters import ScheduleFilters
from services.publisher.pins.openapi import (
    IDS,
    INVALID_OBJECT,
    SCHEDULE,
    build_edit_schema,
    build_pair_schema,
)
from services.publisher.pins.requests import SCHEDULE_FIELDS, parse_ids
from services.publisher.pins.schemas.bulk import BulkResponse
from services.publisher.pins.schemas.dry_run import PinValidationResponse
from services.publisher.pins.schemas.schedules import ScheduleResponse
from services.publisher.pins.transitions import CommandResult
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.access.model import Principal
from shared.contract.schedule_ids import derive_pin_id
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, CONFLICT, NOT_FOUND, OVERLOADED
from shared.http.idempotency import IdempotencyKey
from shared.http.pagination.parameters import PAGE_RESPONSES, set_page_headers
from shared.http.requests import json_body, uuid_or_404

router = APIRouter(tags=["schedules"], responses=ACCESS_ERRORS)

_SCHEDULE_LINK: dict[int | str, dict[str, Any]] = {
    HTTPStatus.CREATED: {
        "links": {
            "schedule": {
                "operationId": "get_schedule_v1_schedules__schedule_id__get",
                "parameters": {"schedule_id": "$response.body#/id"},
            }
        }
    }
}
_EDIT = json_body(
    build_edit_schema(
        SCHEDULE,
        SCHEDULE_FIELDS,
        build_pair_schema("image_url", "asset_id"),
        build_pair_schema("cover_image_url", "cover_image_asset_id"),
    )
)

BulkCommand = Callable[[Principal, Collection[UUID]], Awaitable[Mapping[UUID, CommandResult]]]


async def _change_all(
    request: Request, principal: Principal, publisher: Publisher, command: BulkCommand
) -> BulkResponse:
    async with publisher.reader.read(request) as document:
        ids = parse_ids(document, publisher.settings.max_bulk_ids)
        pin_ids = {schedule_id: derive_pin_id(schedule_id) for schedule_id in ids}
        results = await command(principal, pin_ids.values())
    return BulkResponse.from_results(
        ids, {item: results[pin_id] for item, pin_id in pin_ids.items()}
    )


def _parse_pin_id(schedule_id: str) -> UUID:
    return derive_pin_id(uuid_or_404(schedule_id, "Schedule"))


@router.post(
    "/v1/schedules",
    status_code=HTTPStatus.CREATED,
    openapi_extra=json_body(SCHEDULE),
    responses=OVERLOADED | BODY_ERRORS | CONFLICT | _SCHEDULE_LINK,
)
async def create_schedule(
    request: Request,
    response: Response,
    principal: WriteAccess,
    publisher: Publisher,
    idempotency_key: IdempotencyKey = None,
) -> ScheduleResponse:
    """Publish one pin at `run_at`, which must lie in the future (422 `run_at_in_past`); account and
    board are checked now, and then again.

    Safe to send again with the header `Idempotency-Key`: the schedule that stands under it, as it
    is now, with `Idempotent-Replayed: true`; 422 `idempotency_key_reused` when the content is
    another. Such keys are those of pins and of rows. `idempotency_key` in the body will do as well;
    of both, 422 `invalid_parameter` when they differ. Without either the server makes a key, and
    the same request again makes a second schedule.
    """
    async with publisher.reader.read(request) as document:
        owner = await publisher.schedules.create(principal, document, idempotency_key)
    if not owner.is_new:
        response.headers["Idempotent-Replayed"] = "true"
    return ScheduleResponse.from_row(owner.row)


@router.post(
    "/v1/schedules/validate",
    openapi_extra=json_body({"anyOf": [SCHEDULE, INVALID_OBJECT]}),
    responses=OVERLOADED | BODY_ERRORS,
)
async def validate_schedule(
    request: Request,
    principal: WriteAccess,
    publisher: Publisher,
    idempotency_key: IdempotencyKey = None,
) -> PinValidationResponse:
    """A dry run of `POST /v1/schedules`: what it would find, check by check. Nothing is stored; 200
    also for what is not valid.

    But 422 `invalid_parameter` for an `Idempotency-Key` that can't be one, or that is not the
    body's.
    """
    async with publisher.reader.read(request) as document:
        report = await publisher.dry_run.check_schedule(principal, document, idempotency_key)
    return PinValidationResponse.from_report(report)


@router.post("/v1/schedules/bulk-cancel", openapi_extra=IDS, responses=OVERLOADED | BODY_ERRORS)
async def cancel_schedules(
    request: Request, principal: WriteAccess, publisher: Publisher
) -> BulkResponse:
    """Cancel up to 100 schedules in one transaction.

    Those that are cancelled, done or failed are skipped: it is safe to send again.
    """
    return await _change_all(request, principal, publisher, publisher.schedules.cancel_all)


@router.post("/v1/schedules/bulk-retry", openapi_extra=IDS, responses=OVERLOADED | BODY_ERRORS)
async def retry_schedules(
    request: Request, principal: WriteAccess, publisher: Publisher
) -> BulkResponse:
    """Revive up to 100 failed or cancelled schedules in one transaction.

    Those that wait or are done are skipped: safe to send again.
    """
    return await _change_all(request, principal, publisher, publisher.schedules.retry_all)


@router.post("/v1/schedules/bulk-delete", openapi_extra=IDS, responses=OVERLOADED | BODY_ERRORS)
async def delete_schedules(
    request: Request, principal: DestructiveAccess, publisher: Publisher
) -> BulkResponse:
    """Delete up to 100 schedules in one transaction; their keys stay taken. Those that are done are
    skipped: delete their pins.

    Sent again, those that are gone fail with `not_found`.
    """
    return await _change_all(request, principal, publisher, publisher.schedules.delete_all)


@router.get("/v1/schedules", responses=PAGE_RESPONSES)
async def list_schedules(
    request: Request,
    response: Response,
    principal: ReadAccess,
    publisher: Publisher,
    query: Annotated[ScheduleFilters, Query()],
) -> list[ScheduleResponse]:
    """What is to be published at a time, or was: the latest `run_at` first unless asked otherwise;
    nothing that was deleted.

    A page looks at no more than so many schedules (`PINFLOW_LIST_SCAN_LIMIT`): what would need more
    is refused (422 `search_too_wide`), with a `since` or `until` in `reached` by which it is
    answered.
    """
    page = await publisher.lists.schedules(principal, query)
    set_page_headers(request, response, query, page)
    return [ScheduleResponse.from_row(row) for row in page.rows]


@router.get("/v1/schedules/{schedule_id}", responses=NOT_FOUND)
async def get_schedule(
    schedule_id: str, principal: ReadAccess, publisher: Publisher
) -> ScheduleResponse:
    return ScheduleResponse.from_row(
        await publisher.schedules.get(principal, _parse_pin_id(schedule_id))
    )


@router.patch(
    "/v1/schedules/{schedule_id}",
    openapi_extra=_EDIT,
    responses=OVERLOADED | BODY_ERRORS | NOT_FOUND | CONFLICT,
)
async def edit_schedule(
    schedule_id: str, request: Request, principal: WriteAccess, publisher: Publisher
) -> ScheduleResponse:
    """Change a schedule that waits for its time; 409 `schedule_not_pending` for any other.

    A field that is left out stays, null clears it. Of image_url and asset_id, and of the cover's
    two, one takes the other's place. What comes out must be what could have been sent at first.
    Safe to send again.
    """
    async with publisher.reader.read(request) as document:
        row = await publisher.schedules.edit(principal, _parse_pin_id(schedule_id), document)
    return ScheduleResponse.from_row(row)


@router.delete(
    "/v1/schedules/{schedule_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=OVERLOADED | NOT_FOUND | CONFLICT,
)
async def delete_schedule(
    schedule_id: str, principal: DestructiveAccess, publisher: Publisher
) -> None:
    """Delete a schedule that waits, was cancelled or has failed; what waits is not published any
    more, and the key stays taken.

    One that is done is its pin's: 409 `schedule_already_published`, delete the pin. Sent again it
    is 404: nothing more happens.
    """
    with publisher.writes.acquire():
        await publisher.schedules.delete(principal, _parse_pin_id(schedule_id))


@router.post("/v1/schedules/{schedule_id}/cancel", responses=OVERLOADED | NOT_FOUND | CONFLICT)
async def cancel_schedule(
    schedule_id: str, principal: WriteAccess, publisher: Publisher
) -> ScheduleResponse:
    """Cancel a schedule, as long as it is not published; its key stays taken. Safe to send again:
    the same answer.

    409 `schedule_not_pending` when it was published or failed before. Either this or the
    publication wins, never both.
    """
    with publisher.writes.acquire():
        row = await publisher.schedules.cancel(principal, _parse_pin_id(schedule_id))
    return ScheduleResponse.from_row(row)


@router.post("/v1/schedules/{schedule_id}/retry", responses=OVERLOADED | NOT_FOUND | CONFLICT)
async def retry_schedule(
    schedule_id: str, principal: WriteAccess, publisher: Publisher
) -> ScheduleResponse:
    """Revive a schedule that has failed or was cancelled: for its time if that lies ahead, else at
    once. Safe to send again.

    Account and board are checked when it is due. 409 `schedule_already_published` when it is done.
    """
    with publisher.writes.acquire():
        row = await publisher.schedules.retry(principal, _parse_pin_id(schedule_id))
    return ScheduleResponse.from_row(row)

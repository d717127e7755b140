"""HTTP endpoints of schedules. A schedule publishes its pin at a later time."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from services.publisher.pins.dependencies import Publisher
from services.publisher.pins.lists.filters import ScheduleFilters
from services.publisher.pins.openapi import IDS, MAY_DOUBLE, SCHEDULE, SCHEDULE_EDIT
from services.publisher.pins.request_bodies import parse_ids
from services.publisher.pins.schemas.bulk import BulkResponse
from services.publisher.pins.schemas.dry_run import PinValidationResponse
from services.publisher.pins.schemas.schedules import ScheduleResponse
from services.publisher.pins.transitions import CommandResult
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.access.model import Principal
from shared.contract.schedule_ids import derive_pin_id
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, CONFLICT, NOT_FOUND, OVERLOADED
from shared.http.idempotency import REPLAYED, IdempotencyKey
from shared.http.pagination.parameters import PAGE_RESPONSES, set_page_headers
from shared.http.requests import uuid_or_404
from shared.postgres.row import Row

router = APIRouter(tags=["schedules"], responses=ACCESS_ERRORS)

ScheduleId = Annotated[str, Path(description="The schedule's id.")]

_SCHEDULE_LINK: dict[int | str, dict[str, Any]] = {
    HTTPStatus.CREATED: {
        "description": "The schedule waits for its time, or had been created before with this key.",
        "headers": REPLAYED,
        "links": {
            "schedule": {
                "description": "The schedule.",
                "operationId": "get_schedule",
                "parameters": {"schedule_id": "$response.body#/id"},
            }
        },
    }
}
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
    openapi_extra=SCHEDULE,
    responses=OVERLOADED | BODY_ERRORS | CONFLICT | _SCHEDULE_LINK,
)
async def create_schedule(
    request: Request,
    response: Response,
    principal: WriteAccess,
    publisher: Publisher,
    idempotency_key: IdempotencyKey = None,
) -> ScheduleResponse:
    """Publish one pin at `run_at`, which must be in the future (422 `run_at_in_past`). Account and
    board are checked now, and again at `run_at`.

    With the header `Idempotency-Key`, the request is safe to send again. The answer is then the
    existing schedule in its current state, with `Idempotent-Replayed: true`. If the content
    differs, the answer is 422 `idempotency_key_reused` with `pin_id` and `differing_fields`.
    Schedules, pins and rows share their keys.

    The key may also be sent as `idempotency_key` in the body. If both are sent and differ, the
    answer is 422 `invalid_parameter`. Without a key the server generates one, and the same request
    creates a second schedule if it is sent again.
    """
    async with publisher.reader.read(request) as document:
        pin_of_key = await publisher.schedules.create(principal, document, idempotency_key)
    if not pin_of_key.is_new:
        response.headers["Idempotent-Replayed"] = "true"
    return await _describe(publisher, pin_of_key.row)


@router.post(
    "/v1/schedules/validate",
    openapi_extra=SCHEDULE,
    responses=OVERLOADED | BODY_ERRORS,
    response_description="The result of each check.",
)
async def validate_schedule(
    request: Request,
    principal: WriteAccess,
    publisher: Publisher,
    idempotency_key: IdempotencyKey = None,
) -> PinValidationResponse:
    """Check a schedule without creating it: a dry run of `POST /v1/schedules`.

    Nothing is stored. The answer has the result of each check. It is 200 even if the schedule is
    invalid. But an `Idempotency-Key` that is malformed, or differs from the key in the body, is
    answered 422 `invalid_parameter`.
    """
    async with publisher.reader.read(request) as document:
        report = await publisher.dry_run.check_schedule(principal, document, idempotency_key)
    return PinValidationResponse.from_report(report)


@router.post(
    "/v1/schedules/bulk-cancel",
    openapi_extra=IDS,
    responses=OVERLOADED | BODY_ERRORS,
    response_description="One result for each id.",
)
async def cancel_schedules(
    request: Request, principal: WriteAccess, publisher: Publisher
) -> BulkResponse:
    """Cancel up to 100 schedules in one transaction. The request is safe to send again.

    Schedules that are canceled, done or failed are skipped.
    """
    return await _change_all(request, principal, publisher, publisher.schedules.cancel_all)


@router.post(
    "/v1/schedules/bulk-retry",
    openapi_extra=IDS,
    responses=OVERLOADED | BODY_ERRORS,
    response_description="One result for each id.",
)
async def retry_schedules(
    request: Request, principal: WriteAccess, publisher: Publisher
) -> BulkResponse:
    """Retry up to 100 failed or canceled schedules in one transaction.

    Schedules that are waiting or done are skipped, so the request is safe to send again.
    """
    return await _change_all(request, principal, publisher, publisher.schedules.retry_all)


@router.post(
    "/v1/schedules/bulk-delete",
    openapi_extra=IDS,
    responses=OVERLOADED | BODY_ERRORS,
    response_description="One result for each id.",
)
async def delete_schedules(
    request: Request, principal: DestructiveAccess, publisher: Publisher
) -> BulkResponse:
    """Delete up to 100 schedules in one transaction. Their idempotency keys stay taken.

    Schedules that are done are skipped: delete their pins instead. If the request is sent again,
    the deleted schedules fail with `not_found`.
    """
    return await _change_all(request, principal, publisher, publisher.schedules.delete_all)


@router.get(
    "/v1/schedules", responses=PAGE_RESPONSES, response_description="One page of schedules."
)
async def list_schedules(
    request: Request,
    response: Response,
    principal: ReadAccess,
    publisher: Publisher,
    query: Annotated[ScheduleFilters, Query()],
) -> list[ScheduleResponse]:
    """List schedules, by default the latest `run_at` first, without deleted schedules.

    One page examines at most `PINFLOW_LIST_SCAN_LIMIT` schedules. A wider search is refused with
    422 `search_too_wide`. The message says how to narrow it, often by `since` or `until` with the
    value in `reached`.
    """
    page = await publisher.lists.list_schedules(principal, query)
    set_page_headers(request, response, query, page)
    return [ScheduleResponse.from_row(row) for row in await publisher.deferrals.describe(page.rows)]


@router.get(
    "/v1/schedules/{schedule_id}", responses=NOT_FOUND, response_description="The schedule."
)
async def get_schedule(
    schedule_id: ScheduleId, principal: ReadAccess, publisher: Publisher
) -> ScheduleResponse:
    """Read one schedule. Its `pin_id` is null until the pin is published."""
    row = await publisher.schedules.get(principal, _parse_pin_id(schedule_id))
    return await _describe(publisher, row)


@router.patch(
    "/v1/schedules/{schedule_id}",
    openapi_extra=SCHEDULE_EDIT,
    responses=OVERLOADED | BODY_ERRORS | NOT_FOUND | CONFLICT,
    response_description="The changed schedule.",
)
async def edit_schedule(
    schedule_id: ScheduleId, request: Request, principal: WriteAccess, publisher: Publisher
) -> ScheduleResponse:
    """Change a schedule that waits for its `run_at`. For any other schedule, the answer is 409
    `schedule_not_pending`.

    A field that is left out stays unchanged. null clears a field, except run_at, title and
    board_id. Setting image_url clears asset_id, and the reverse; the same holds for cover_image_url
    and cover_image_asset_id. The changed schedule must meet the rules of a new schedule. If a
    field is unknown or can't be changed, nothing is changed and the answer is 422 with a fault for
    each such field. The request is safe to send again.
    """
    async with publisher.reader.read(request) as document:
        row = await publisher.schedules.edit(principal, _parse_pin_id(schedule_id), document)
    return await _describe(publisher, row)


@router.delete(
    "/v1/schedules/{schedule_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=OVERLOADED | NOT_FOUND | CONFLICT,
    response_description="The schedule is deleted.",
)
async def delete_schedule(
    schedule_id: ScheduleId, principal: DestructiveAccess, publisher: Publisher
) -> None:
    """Delete a schedule that waits, was canceled or has failed. It is then never published, and its
    idempotency key stays taken.

    If it is done, the answer is 409 `schedule_already_published`: delete its pin instead. While its
    pin is being sent to Pinterest, the answer is 409 `pin_publishing`. If the request is sent
    again, the answer is 404.
    """
    with publisher.writes.acquire():
        await publisher.schedules.delete(principal, _parse_pin_id(schedule_id))


@router.post(
    "/v1/schedules/{schedule_id}/cancel",
    responses=OVERLOADED | NOT_FOUND | CONFLICT,
    response_description="The canceled schedule.",
)
async def cancel_schedule(
    schedule_id: ScheduleId, principal: WriteAccess, publisher: Publisher
) -> ScheduleResponse:
    """Cancel a schedule that is not published yet. Its idempotency key stays taken.

    The request is safe to send again, with the same answer. If the schedule was published or has
    failed before, the answer is 409 `schedule_not_pending`. While its pin is being sent to
    Pinterest, the answer is 409 `pin_publishing`. A schedule is never both canceled and published.
    """
    with publisher.writes.acquire():
        row = await publisher.schedules.cancel(principal, _parse_pin_id(schedule_id))
    return await _describe(publisher, row)


@router.post(
    "/v1/schedules/{schedule_id}/retry",
    responses=OVERLOADED | NOT_FOUND | CONFLICT,
    response_description="The schedule, which waits again.",
)
async def retry_schedule(
    schedule_id: ScheduleId,
    principal: WriteAccess,
    publisher: Publisher,
    *,
    may_double: Annotated[bool, MAY_DOUBLE] = False,
) -> ScheduleResponse:
    """Retry a schedule that has failed or was canceled. It is published at its `run_at`, or at once
    if that time has passed.

    Account and board are checked when it is due. If it is done, the answer is 409
    `schedule_already_published`. If its pin may be on Pinterest already, the answer is 409
    `publish_unconfirmed`, unless `may_double=true`. The request is safe to send again.
    """
    with publisher.writes.acquire():
        row = await publisher.schedules.retry(
            principal, _parse_pin_id(schedule_id), may_double=may_double
        )
    return await _describe(publisher, row)


async def _describe(publisher: Publisher, row: Row) -> ScheduleResponse:
    return ScheduleResponse.from_row(await publisher.deferrals.describe_pin(row))

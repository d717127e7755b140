"""HTTP of schedules: pins that are to be published later."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from services.publisher.pins.commands import Verdict
from services.publisher.pins.dependencies import Publisher
from services.publisher.pins.filters import ScheduleFilters
from services.publisher.pins.openapi import ANY_OBJECT, IDS, SCHEDULE, both, fields_of
from services.publisher.pins.requests import SCHEDULE_FIELDS, ids_of
from services.publisher.pins.schemas.bulk import BulkResponse
from services.publisher.pins.schemas.dry_run import PinValidationResponse
from services.publisher.pins.schemas.schedules import ScheduleResponse
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.access.model import Principal
from shared.contract.errors import not_found
from shared.contract.schedule_ids import pin_id_of_schedule
from shared.http.app import CONFLICT, NOT_FOUND, OVERLOADED, UNREADABLE, uuid_or_404
from shared.http.idempotency import IdempotencyKey
from shared.http.pagination.paging import PAGED, describe_page
from shared.http.requests import json_body

router = APIRouter(tags=["schedules"])

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
    fields_of(
        SCHEDULE,
        SCHEDULE_FIELDS,
        both("image_url", "asset_id"),
        both("cover_image_url", "cover_image_asset_id"),
    )
)
ToEach = Callable[[Principal, Collection[UUID]], Awaitable[Mapping[UUID, Verdict]]]


async def _to_each(
    request: Request, who: Principal, publisher: Publisher, command: ToEach
) -> BulkResponse:
    async with publisher.document(request) as document:
        ids = ids_of(document, publisher.max_bulk_ids)
        pins = {one: pin_id_of_schedule(one) for one in ids}
        verdicts = await command(who, pins.values())
    return BulkResponse.of(ids, {one: verdicts[pin_id] for one, pin_id in pins.items()})


@router.post(
    "/v1/schedules",
    status_code=HTTPStatus.CREATED,
    openapi_extra=json_body(SCHEDULE),
    responses=OVERLOADED | UNREADABLE | CONFLICT | _SCHEDULE_LINK,
)
async def create_schedule(
    request: Request,
    response: Response,
    who: WriteAccess,
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
    async with publisher.document(request) as document:
        row, made = await publisher.schedules.create(who, document, idempotency_key)
    if not made:
        response.headers["Idempotent-Replayed"] = "true"
    return ScheduleResponse.of(row)


@router.post(
    "/v1/schedules/validate",
    openapi_extra=json_body({"anyOf": [SCHEDULE, ANY_OBJECT]}),
    responses=OVERLOADED | UNREADABLE,
)
async def validate_schedule(
    request: Request, who: WriteAccess, publisher: Publisher, idempotency_key: IdempotencyKey = None
) -> PinValidationResponse:
    """A dry run of `POST /v1/schedules`: what it would find, check by check. Nothing is stored; 200
    also for what is not valid.

    But 422 `invalid_parameter` for an `Idempotency-Key` that can't be one, or that is not the
    body's.
    """
    async with publisher.document(request) as document:
        report = await publisher.validation.schedule(who, document, idempotency_key)
    return PinValidationResponse.of(report)


@router.post("/v1/schedules/bulk-cancel", openapi_extra=IDS, responses=OVERLOADED | UNREADABLE)
async def cancel_schedules(
    request: Request, who: WriteAccess, publisher: Publisher
) -> BulkResponse:
    """Cancel up to 100 schedules in one transaction.

    Those that are cancelled, done or failed are skipped: it is safe to send again.
    """
    return await _to_each(request, who, publisher, publisher.schedules.cancel_all)


@router.post("/v1/schedules/bulk-retry", openapi_extra=IDS, responses=OVERLOADED | UNREADABLE)
async def retry_schedules(request: Request, who: WriteAccess, publisher: Publisher) -> BulkResponse:
    """Revive up to 100 failed or cancelled schedules in one transaction.

    Those that wait or are done are skipped: safe to send again.
    """
    return await _to_each(request, who, publisher, publisher.schedules.retry_all)


@router.post("/v1/schedules/bulk-delete", openapi_extra=IDS, responses=OVERLOADED | UNREADABLE)
async def delete_schedules(
    request: Request, who: DestructiveAccess, publisher: Publisher
) -> BulkResponse:
    """Delete up to 100 schedules in one transaction; their keys stay taken. Those that are done are
    skipped: delete their pins.

    Sent again, those that are gone fail with `not_found`.
    """
    return await _to_each(request, who, publisher, publisher.schedules.delete_all)


@router.get("/v1/schedules", responses=PAGED)
async def list_schedules(
    request: Request,
    response: Response,
    who: ReadAccess,
    publisher: Publisher,
    asked: Annotated[ScheduleFilters, Query()],
) -> list[ScheduleResponse]:
    """What is to be published at a time, or was: the latest `run_at` first unless asked otherwise;
    nothing that was deleted.

    A page looks at no more than so many schedules (`PINFLOW_LIST_SCAN_LIMIT`): what would need more
    is refused (422 `search_too_wide`), with a `since` or `until` in `reached` by which it is
    answered.
    """
    page = await publisher.lists.schedules(who, asked)
    describe_page(request, response, asked, page)
    return [ScheduleResponse.of(row) for row in page.rows]


@router.get("/v1/schedules/{schedule_id}", responses=NOT_FOUND)
async def get_schedule(schedule_id: str, who: ReadAccess, publisher: Publisher) -> ScheduleResponse:
    pin_id = pin_id_of_schedule(uuid_or_404(schedule_id, "Schedule"))
    row = await publisher.queries.schedule(who.workspace_id, pin_id)
    if row is None or not who.permits(row["account_id"]):
        raise not_found("Schedule")
    return ScheduleResponse.of(row)


@router.patch(
    "/v1/schedules/{schedule_id}",
    openapi_extra=_EDIT,
    responses=OVERLOADED | UNREADABLE | NOT_FOUND | CONFLICT,
)
async def edit_schedule(
    schedule_id: str, request: Request, who: WriteAccess, publisher: Publisher
) -> ScheduleResponse:
    """Change a schedule that waits for its time; 409 `schedule_not_pending` for any other.

    A field that is left out stays, null clears it. Of image_url and asset_id, and of the cover's
    two, one takes the other's place. What comes out must be what could have been sent at first.
    Safe to send again.
    """
    async with publisher.document(request) as document:
        row = await publisher.schedules.edit(
            who, pin_id_of_schedule(uuid_or_404(schedule_id, "Schedule")), document
        )
    return ScheduleResponse.of(row)


@router.delete(
    "/v1/schedules/{schedule_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=OVERLOADED | NOT_FOUND | CONFLICT,
)
async def delete_schedule(schedule_id: str, who: DestructiveAccess, publisher: Publisher) -> None:
    """Delete a schedule that waits, was cancelled or has failed; what waits is not published any
    more, and the key stays taken.

    One that is done is its pin's: 409 `schedule_already_published`, delete the pin. Sent again it
    is 404: nothing more happens.
    """
    with publisher.admission.one():
        await publisher.schedules.delete(
            who, pin_id_of_schedule(uuid_or_404(schedule_id, "Schedule"))
        )


@router.post("/v1/schedules/{schedule_id}/cancel", responses=OVERLOADED | NOT_FOUND | CONFLICT)
async def cancel_schedule(
    schedule_id: str, who: WriteAccess, publisher: Publisher
) -> ScheduleResponse:
    """Cancel a schedule, as long as it is not published; its key stays taken. Safe to send again:
    the same answer.

    409 `schedule_not_pending` when it was published or failed before. Either this or the
    publication wins, never both.
    """
    with publisher.admission.one():
        row = await publisher.schedules.cancel(
            who, pin_id_of_schedule(uuid_or_404(schedule_id, "Schedule"))
        )
    return ScheduleResponse.of(row)


@router.post("/v1/schedules/{schedule_id}/retry", responses=OVERLOADED | NOT_FOUND | CONFLICT)
async def retry_schedule(
    schedule_id: str, who: WriteAccess, publisher: Publisher
) -> ScheduleResponse:
    """Revive a schedule that has failed or was cancelled: for its time if that lies ahead, else at
    once. Safe to send again.

    Account and board are checked when it is due. 409 `schedule_already_published` when it is done.
    """
    with publisher.admission.one():
        row = await publisher.schedules.retry(
            who, pin_id_of_schedule(uuid_or_404(schedule_id, "Schedule"))
        )
    return ScheduleResponse.of(row)

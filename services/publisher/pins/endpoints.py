"""HTTP endpoints of pins, and of the jobs that publish them."""

from http import HTTPStatus
from inspect import getdoc
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from services.publisher.pins.creation import OnMismatch
from services.publisher.pins.dependencies import Publisher
from services.publisher.pins.lists.filters import PinFilters
from services.publisher.pins.openapi import IDS, MAY_DOUBLE, PIN, PIN_EDIT, PIN_RETRY, PINS
from services.publisher.pins.request_bodies import parse_ids
from services.publisher.pins.schemas.bulk import BulkResponse
from services.publisher.pins.schemas.dry_run import PinValidationResponse
from services.publisher.pins.schemas.pins import (
    JobStatusResponse,
    PinBatchResponse,
    PinResponse,
    PublishedPinResponse,
)
from services.publisher.pins.schemas.removals import PinDeleteResponse
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, CONFLICT, NOT_FOUND, OVERLOADED
from shared.http.idempotency import REPLAYED, IdempotencyKey
from shared.http.pagination.parameters import PAGE_RESPONSES, set_page_headers
from shared.http.requests import uuid_or_404
from shared.postgres.row import Row

router = APIRouter(tags=["pins"], responses=ACCESS_ERRORS)
job_router = APIRouter(tags=["jobs"], responses=ACCESS_ERRORS)

PinId = Annotated[str, Path(description="The pin's id.")]
JobId = Annotated[str, Path(description="The job's id: the id of its pin.")]

_PIN_LINK: dict[int | str, dict[str, Any]] = {
    HTTPStatus.CREATED: {
        "description": "The pin is published, or had been published before with this key.",
        "headers": REPLAYED,
        "links": {
            "pin": {
                "description": "The pin.",
                "operationId": "get_pin",
                "parameters": {"pin_id": "$response.body#/id"},
            }
        },
    }
}
_ON_MISMATCH = Query(description=getdoc(OnMismatch))
_DELETE_FROM_PINTEREST = Query(
    description="True: also remove the pin from Pinterest. The answer is 200 with a body that says "
    "whether it is removed."
)


@router.post(
    "/v1/pins",
    status_code=HTTPStatus.CREATED,
    openapi_extra=PIN,
    responses=OVERLOADED | BODY_ERRORS | CONFLICT | _PIN_LINK,
)
async def create_pin(
    request: Request,
    response: Response,
    principal: WriteAccess,
    publisher: Publisher,
    *,
    on_mismatch: Annotated[OnMismatch, _ON_MISMATCH] = OnMismatch.RETURN,
    idempotency_key: IdempotencyKey = None,
) -> PublishedPinResponse:
    """Publish one pin now.

    If its account was connected to Pinterest, the pin is queued, and Pinflow creates it there. Then
    it is `published` with a `pinterest_pin_id`, or `failed`. Otherwise it is stored and announced.

    If a pin already has the idempotency key, the answer is that pin, with the
    header `Idempotent-Replayed: true`. `payload_matches` and `differing_fields` compare it with the
    request. If the key belongs to a schedule that waits or was canceled, the answer is 409
    `already_scheduled`. If the key's pin was deleted, the answer is 409 `pin_deleted`, unless an
    undo of its import released the key: then the pin is published under a new id.

    The key is in the header `Idempotency-Key`, or in `idempotency_key` of the body. If both are
    sent and differ, the answer is 422 `invalid_parameter`.
    """
    async with publisher.reader.read(request) as document:
        pin_of_key = await publisher.pins.publish(principal, document, idempotency_key, on_mismatch)
    if not pin_of_key.is_new:
        response.headers["Idempotent-Replayed"] = "true"
    row = await publisher.deferrals.describe_pin(pin_of_key.row)
    return PublishedPinResponse.from_pin_of_key(
        pin_of_key._replace(row=row), publisher.settings.base_url
    )


@router.post(
    "/v1/pins/batch",
    openapi_extra=PINS,
    responses=OVERLOADED | BODY_ERRORS,
    response_description="One result for each pin.",
)
async def create_pins(
    request: Request,
    principal: WriteAccess,
    publisher: Publisher,
    *,
    on_mismatch: Annotated[OnMismatch, _ON_MISMATCH] = OnMismatch.RETURN,
) -> PinBatchResponse:
    """Publish up to 100 pins now. A fault fails only its own pin, and the answer is still 200.

    Each pin gets the result of a single `POST /v1/pins`. The request is safe to send again: pins
    that were `created` are then `existing`. If several pins have the same key, the first
    publishable one is created.
    """
    async with publisher.batch_reader.read(request) as document:
        items = await publisher.bulk_publish.publish(principal, document, on_mismatch)
    rows = iter(
        await publisher.deferrals.describe(item.row for item in items if item.row is not None)
    )
    items = [item if item.row is None else item._replace(row=next(rows)) for item in items]
    return PinBatchResponse.from_items(items, publisher.settings.base_url)


@router.post(
    "/v1/pins/validate",
    openapi_extra=PIN,
    responses=OVERLOADED | BODY_ERRORS,
    response_description="The result of each check.",
)
async def validate_pin(
    request: Request,
    principal: WriteAccess,
    publisher: Publisher,
    idempotency_key: IdempotencyKey = None,
) -> PinValidationResponse:
    """Check a pin without publishing it: a dry run of `POST /v1/pins`.

    Nothing is stored. The answer has the result of each check. It is 200 even if the pin is
    invalid. But an `Idempotency-Key` that is malformed, or differs from the key in the body, is
    answered 422 `invalid_parameter`.
    """
    async with publisher.reader.read(request) as document:
        report = await publisher.dry_run.check_pin(principal, document, idempotency_key)
    return PinValidationResponse.from_report(report)


@router.post(
    "/v1/pins/bulk-delete",
    openapi_extra=IDS,
    responses=OVERLOADED | BODY_ERRORS,
    response_description="One result for each id.",
)
async def delete_pins(
    request: Request, principal: DestructiveAccess, publisher: Publisher
) -> BulkResponse:
    """Delete up to 100 pins in one transaction. Their idempotency keys stay taken.

    Pins that are on Pinterest stay there. Pins that are being sent to Pinterest are skipped with
    `pin_publishing`. If the request is sent again, the deleted pins fail with `not_found`.
    """
    async with publisher.reader.read(request) as document:
        ids = parse_ids(document, publisher.settings.max_bulk_ids)
        return BulkResponse.from_results(ids, await publisher.pins.delete_all(principal, ids))


@router.post(
    "/v1/pins/bulk-retry",
    openapi_extra=IDS,
    responses=OVERLOADED | BODY_ERRORS,
    response_description="One result for each id.",
)
async def retry_pins(
    request: Request, principal: WriteAccess, publisher: Publisher
) -> BulkResponse:
    """Publish up to 100 failed pins in one transaction. The request is safe to send again.

    Pins that are published or about to be are skipped. A pin whose account or board does not exist
    fails and stays unchanged. So does a pin that may be on Pinterest already
    (`publish_unconfirmed`): retry it alone.
    """
    async with publisher.reader.read(request) as document:
        ids = parse_ids(document, publisher.settings.max_bulk_ids)
        return BulkResponse.from_results(ids, await publisher.pins.retry_all(principal, ids))


@router.get("/v1/pins", responses=PAGE_RESPONSES, response_description="One page of pins.")
async def list_pins(
    request: Request,
    response: Response,
    principal: ReadAccess,
    publisher: Publisher,
    query: Annotated[PinFilters, Query()],
) -> list[PinResponse]:
    """List pins that are published, failed or due, by default newest first, without deleted pins.

    Due pins are queued, deferred or being sent to Pinterest.

    One page examines at most `PINFLOW_LIST_SCAN_LIMIT` pins. A wider search is refused with 422
    `search_too_wide`. The message says how to narrow it, often by `since` or `until` with the value
    in `reached`.
    """
    page = await publisher.lists.list_pins(principal, query)
    set_page_headers(request, response, query, page)
    rows = await publisher.deferrals.describe(page.rows)
    return [PinResponse.from_row(row, publisher.settings.base_url) for row in rows]


@router.get("/v1/pins/{pin_id}", responses=NOT_FOUND, response_description="The pin.")
async def get_pin(pin_id: PinId, principal: ReadAccess, publisher: Publisher) -> PinResponse:
    """Read a pin that is published, due or failed. A schedule has a pin once it is due."""
    row = await publisher.pins.get(principal, uuid_or_404(pin_id, "Pin"))
    return await _describe(publisher, row)


@router.patch(
    "/v1/pins/{pin_id}",
    openapi_extra=PIN_EDIT,
    responses=OVERLOADED | BODY_ERRORS | NOT_FOUND | CONFLICT,
    response_description="The changed pin.",
)
async def edit_pin(
    pin_id: PinId, request: Request, principal: WriteAccess, publisher: Publisher
) -> PinResponse:
    """Change a pin that failed, or that is due: queued or deferred.

    If the pin is published, the answer is 409 `pin_already_published`. While it is being sent to
    Pinterest, the answer is 409 `pin_publishing`. Before it is due, change its schedule instead.

    A field that is left out stays unchanged. null clears a field, except title and board_id. If a
    field is unknown or can't be changed, nothing is changed and the answer is 422 with a fault for
    each such field. The request is safe to send again. `payload_matches` of later requests with
    the same key still compares with the content before the change.
    """
    async with publisher.reader.read(request) as document:
        row = await publisher.pins.edit(principal, uuid_or_404(pin_id, "Pin"), document)
    return await _describe(publisher, row)


@router.delete(
    "/v1/pins/{pin_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses={
        HTTPStatus.OK: {
            "model": PinDeleteResponse,
            "description": "The pin is deleted. The answer with `delete_from_pinterest=true`.",
        },
        **OVERLOADED,
        **NOT_FOUND,
        **CONFLICT,
    },
    response_description="The pin is deleted.",
)
async def delete_pin(
    pin_id: PinId,
    principal: DestructiveAccess,
    publisher: Publisher,
    *,
    delete_from_pinterest: Annotated[bool, _DELETE_FROM_PINTEREST] = False,
) -> Response:
    """Delete a pin, published or not. If it has a schedule, the schedule is deleted too.

    The idempotency key stays taken, so nothing is published twice. If the request is sent again,
    the answer is 404, as for a pin that never existed. While the pin is being sent to Pinterest,
    the answer is 409 `pin_publishing`.

    A pin that is on Pinterest stays there. With `delete_from_pinterest=true` it is removed there,
    too. The request then waits up to 5 seconds for Pinterest. It can be repeated until the pin is
    removed, and also works on a pin that was deleted only in Pinflow before.
    """
    parsed_id = uuid_or_404(pin_id, "Pin")
    with publisher.writes.acquire():
        if not delete_from_pinterest:
            await publisher.pins.delete(principal, parsed_id)
            return Response(status_code=HTTPStatus.NO_CONTENT)
        pin = await publisher.pins.delete_from_pinterest(principal, parsed_id)
    answer = PinDeleteResponse.from_removal(pin, await publisher.pins.wait_for_removal(pin))
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post(
    "/v1/pins/{pin_id}/retry",
    openapi_extra=PIN_RETRY,
    responses=OVERLOADED | BODY_ERRORS | NOT_FOUND | CONFLICT,
    response_description="The published pin. If its account is connected, it is queued.",
)
async def retry_pin(
    pin_id: PinId,
    request: Request,
    principal: WriteAccess,
    publisher: Publisher,
    *,
    may_double: Annotated[bool, MAY_DOUBLE] = False,
) -> PinResponse:
    """Publish a failed pin now, to another account or board if the body has one.

    If the account or board does not exist, the answer is 422 `account_not_found` or
    `board_not_found` and the pin stays unchanged. The request is safe to send again: the answer is
    then 409 `pin_already_published`.

    A pin with `delivery` `pinterest` is queued, and the repeated request gets 409 `pin_not_failed`
    or `pin_publishing` until it is published. Its account can only be replaced by another one that
    is connected. A pin that may be on Pinterest already gets 409 `publish_unconfirmed`, unless
    `may_double=true`.
    """
    async with publisher.reader.read_optional(request) as document:
        row = await publisher.pins.retry(
            principal, uuid_or_404(pin_id, "Pin"), document, may_double=may_double
        )
    return await _describe(publisher, row)


@job_router.get(
    "/v1/jobs/{job_id}", responses=NOT_FOUND, response_description="The progress of the pin."
)
async def get_job(job_id: JobId, principal: ReadAccess, publisher: Publisher) -> JobStatusResponse:
    """Read the progress of publishing one pin. The job's id is the pin's id.

    Each pin of `GET /v1/pins/{pin_id}` has a job. For the job of an import, use
    `GET /v1/pins/imports/{job_id}`.
    """
    row = await publisher.pins.get_job(principal, uuid_or_404(job_id, "Job"))
    return JobStatusResponse.from_row(await publisher.deferrals.describe_pin(row))


async def _describe(publisher: Publisher, row: Row) -> PinResponse:
    described = await publisher.deferrals.describe_pin(row)
    return PinResponse.from_row(described, publisher.settings.base_url)

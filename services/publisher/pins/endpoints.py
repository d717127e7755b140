"""HTTP endpoints of pins, and of the jobs that publish them."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from services.publisher.config import MAX_BATCH_PINS
from services.publisher.pins.dependencies import Publisher
from services.publisher.pins.lists.filters import PinFilters
from services.publisher.pins.openapi import (
    IDS,
    INVALID_ITEM,
    INVALID_OBJECT,
    PIN,
    build_edit_schema,
)
from services.publisher.pins.requests import PIN_FIELDS, PinRetry, parse_ids
from services.publisher.pins.schemas.bulk import BulkResponse
from services.publisher.pins.schemas.dry_run import PinValidationResponse
from services.publisher.pins.schemas.pins import (
    JobStatusResponse,
    PinBatchResponse,
    PinDeleteResponse,
    PinResponse,
)
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, CONFLICT, NOT_FOUND, OVERLOADED
from shared.http.pagination.parameters import PAGE_RESPONSES, set_page_headers
from shared.http.requests import json_body, uuid_or_404

router = APIRouter(tags=["pins"], responses=ACCESS_ERRORS)
job_router = APIRouter(tags=["jobs"], responses=ACCESS_ERRORS)

_PIN_LINK: dict[int | str, dict[str, Any]] = {
    HTTPStatus.CREATED: {
        "links": {
            "pin": {
                "operationId": "get_pin_v1_pins__pin_id__get",
                "parameters": {"pin_id": "$response.body#/id"},
            }
        }
    }
}
_PINS = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_BATCH_PINS,
    "items": {"anyOf": [PIN, INVALID_ITEM]},
}
_BATCH = json_body({"type": "object", "required": ["pins"], "properties": {"pins": _PINS}})
_EDIT = json_body(build_edit_schema(PIN, PIN_FIELDS))
_RETRY = json_body({"anyOf": [PinRetry.model_json_schema(), {"type": "null"}]}, required=False)
_DELETE_FROM_PINTEREST = Query(description="Answer 200 and say what has become of it on Pinterest.")


@router.post(
    "/v1/pins",
    status_code=HTTPStatus.CREATED,
    openapi_extra=json_body(PIN),
    responses=OVERLOADED | BODY_ERRORS | CONFLICT | _PIN_LINK,
)
async def create_pin(
    request: Request, response: Response, principal: WriteAccess, publisher: Publisher
) -> PinResponse:
    """Publish one pin now.

    The same key again answers the pin that stands, with `Idempotent-Replayed: true`.
    """
    async with publisher.reader.read(request) as document:
        owner = await publisher.pins.publish(principal, document)
    if not owner.is_new:
        response.headers["Idempotent-Replayed"] = "true"
    return PinResponse.from_row(owner.row, publisher.settings.base_url)


@router.post("/v1/pins/batch", openapi_extra=_BATCH, responses=OVERLOADED | BODY_ERRORS)
async def create_pins(
    request: Request, principal: WriteAccess, publisher: Publisher
) -> PinBatchResponse:
    """Publish up to 100 pins now, each as if it had been sent alone: what is wrong with one fails
    it alone, and the answer is 200.

    Safe to send again: what was `created` is `existing` then. Of equal keys the first makes the
    pin.
    """
    async with publisher.batch_reader.read(request) as document:
        items = await publisher.batches.publish(principal, document)
    return PinBatchResponse.from_items(items, publisher.settings.base_url)


@router.post(
    "/v1/pins/validate",
    openapi_extra=json_body({"anyOf": [PIN, INVALID_OBJECT]}),
    responses=OVERLOADED | BODY_ERRORS,
)
async def validate_pin(
    request: Request, principal: WriteAccess, publisher: Publisher
) -> PinValidationResponse:
    """A dry run of `POST /v1/pins`: what it would find, check by check.

    Nothing is stored; 200 also for what is not valid.
    """
    async with publisher.reader.read(request) as document:
        report = await publisher.dry_run.check_pin(principal, document)
    return PinValidationResponse.from_report(report)


@router.post("/v1/pins/bulk-delete", openapi_extra=IDS, responses=OVERLOADED | BODY_ERRORS)
async def delete_pins(
    request: Request, principal: DestructiveAccess, publisher: Publisher
) -> BulkResponse:
    """Delete up to 100 pins in one transaction; their keys stay taken.

    Sent again, those that are gone fail with `not_found`.
    """
    async with publisher.reader.read(request) as document:
        ids = parse_ids(document, publisher.settings.max_bulk_ids)
        return BulkResponse.from_results(ids, await publisher.pins.delete_all(principal, ids))


@router.post("/v1/pins/bulk-retry", openapi_extra=IDS, responses=OVERLOADED | BODY_ERRORS)
async def retry_pins(
    request: Request, principal: WriteAccess, publisher: Publisher
) -> BulkResponse:
    """Publish up to 100 failed pins in one transaction. Those that are published, or about to be,
    are skipped: it is safe to send again.

    One whose account or board is not there fails, and stays as it is.
    """
    async with publisher.reader.read(request) as document:
        ids = parse_ids(document, publisher.settings.max_bulk_ids)
        return BulkResponse.from_results(ids, await publisher.pins.retry_all(principal, ids))


@router.get("/v1/pins", responses=PAGE_RESPONSES)
async def list_pins(
    request: Request,
    response: Response,
    principal: ReadAccess,
    publisher: Publisher,
    query: Annotated[PinFilters, Query()],
) -> list[PinResponse]:
    """What is published, failed or due, newest first unless asked otherwise; nothing that was
    deleted.

    A page looks at no more than so many pins (`PINFLOW_LIST_SCAN_LIMIT`): what would need more is
    refused (422 `search_too_wide`), with a `since` or `until` in `reached` by which it is answered.
    """
    page = await publisher.lists.pins(principal, query)
    set_page_headers(request, response, query, page)
    return [PinResponse.from_row(row, publisher.settings.base_url) for row in page.rows]


@router.get("/v1/pins/{pin_id}", responses=NOT_FOUND)
async def get_pin(pin_id: str, principal: ReadAccess, publisher: Publisher) -> PinResponse:
    """A pin that is published, due or failed. A schedule that is not due is none yet."""
    row = await publisher.pins.get(principal, uuid_or_404(pin_id, "Pin"))
    return PinResponse.from_row(row, publisher.settings.base_url)


@router.patch(
    "/v1/pins/{pin_id}",
    openapi_extra=_EDIT,
    responses=OVERLOADED | BODY_ERRORS | NOT_FOUND | CONFLICT,
)
async def edit_pin(
    pin_id: str, request: Request, principal: WriteAccess, publisher: Publisher
) -> PinResponse:
    """Change a pin that has failed, or is due and not published yet; 409 `pin_already_published`
    after that.

    A field that is left out stays, null clears it (not title and board_id). Safe to send again.
    Whether later rows under the key have `payload_matches` goes by the content that came first.
    """
    async with publisher.reader.read(request) as document:
        row = await publisher.pins.edit(principal, uuid_or_404(pin_id, "Pin"), document)
    return PinResponse.from_row(row, publisher.settings.base_url)


@router.delete(
    "/v1/pins/{pin_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses={
        HTTPStatus.OK: {"model": PinDeleteResponse, "description": "With `delete_from_pinterest`"},
        **OVERLOADED,
        **NOT_FOUND,
    },
)
async def delete_pin(
    pin_id: str,
    principal: DestructiveAccess,
    publisher: Publisher,
    *,
    delete_from_pinterest: Annotated[bool, _DELETE_FROM_PINTEREST] = False,
) -> Response:
    """Delete a pin, published or not; of a schedule's, the schedule goes with it. Its key stays
    taken, so nothing is published twice.

    Sent again it is 404, as for a pin that never was: nothing more happens.
    """
    with publisher.writes.acquire():
        row = await publisher.pins.delete(principal, uuid_or_404(pin_id, "Pin"))
    if not delete_from_pinterest:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return Response(
        PinDeleteResponse(id=row["pin_id"]).model_dump_json(), media_type="application/json"
    )


@router.post(
    "/v1/pins/{pin_id}/retry",
    openapi_extra=_RETRY,
    responses=OVERLOADED | BODY_ERRORS | NOT_FOUND | CONFLICT,
)
async def retry_pin(
    pin_id: str, request: Request, principal: WriteAccess, publisher: Publisher
) -> PinResponse:
    """Publish a failed pin at once, to another account or board if the body names one.

    422 `account_not_found` or `board_not_found` when it would fail again: it stays as it is. Safe
    to send again: 409 `pin_already_published` then.
    """
    async with publisher.reader.read_optional(request) as document:
        row = await publisher.pins.retry(principal, uuid_or_404(pin_id, "Pin"), document)
    return PinResponse.from_row(row, publisher.settings.base_url)


@job_router.get("/v1/jobs/{job_id}", responses=NOT_FOUND)
async def get_job(job_id: str, principal: ReadAccess, publisher: Publisher) -> JobStatusResponse:
    """How far the publishing of a pin is. The job's id is the pin's, and there is one for each pin
    that `GET /v1/pins/{pin_id}` shows.

    Imports have jobs of their own: `GET /v1/pins/imports/{job_id}`.
    """
    return JobStatusResponse.from_row(
        await publisher.pins.get_job(principal, uuid_or_404(job_id, "Job"))
    )

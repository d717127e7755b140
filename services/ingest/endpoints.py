"""HTTP of ingest: an import as JSON, or as a CSV; and how much more of them there is room for."""

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from services.ingest.dependencies import Ingest
from services.ingest.ids import build_job_path
from services.ingest.parsing.multipart import open_upload
from services.ingest.schemas import ImportAcceptedResponse, RateMeterResponse
from shared.access.dependencies import ReadAccess, WriteAccess
from shared.contract.errors import Overloaded
from shared.contract.events import MAX_ROWS
from shared.contract.pins import PinSubmission
from shared.http.bodies import require_content_type
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, OVERLOADED, error_responses
from shared.http.requests import uuid_or_404

router = APIRouter(
    prefix="/v1/pins/imports",
    tags=["imports"],
    responses=ACCESS_ERRORS | OVERLOADED | BODY_ERRORS,
)
internal_router = APIRouter(prefix="/internal", include_in_schema=False)
rate_meter_router = APIRouter(
    tags=["rate-meter"], responses=ACCESS_ERRORS | error_responses(HTTPStatus.NOT_FOUND)
)


async def _require_capacity(request: Request, principal: WriteAccess, ingest: Ingest) -> None:
    """Refuses an import before its body is read. Raises Overloaded."""
    try:
        ingest.imports.require_capacity(principal.workspace_id)
    except Overloaded:
        await ingest.bodies.discard(request)
        raise


RequiresCapacity = Depends(_require_capacity)
Strict = Annotated[
    bool, Query(description="Fail rows that have unknown fields, instead of ignoring these.")
]


def _body(content_type: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "requestBody": {"required": True, "content": {content_type: {"schema": schema, **more}}}
    }


_ANY_ROW = {
    "type": "object",
    "title": "What is wrong",
    "description": "Fails its row, with every fault named; never the import.",
}
_ROWS = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_ROWS,
    "items": {"anyOf": [PinSubmission.model_json_schema(), _ANY_ROW]},
}
_FILE = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary"}},
}
_CSV = {"file": {"contentType": "text/csv"}}
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    HTTPStatus.ACCEPTED: {
        "headers": {
            "Location": {"description": "The job.", "required": True, "schema": {"type": "string"}}
        },
        "links": {
            "job": {
                "operationId": "get_import_v1_pins_imports__job_id__get",
                "parameters": {"job_id": "$response.body#/id"},
            }
        },
    }
}


@router.post(
    "/json",
    status_code=HTTPStatus.ACCEPTED,
    responses=_ACCEPTED,
    openapi_extra=_body("application/json", _ROWS),
    dependencies=[RequiresCapacity],
)
async def import_json(
    request: Request,
    response: Response,
    principal: WriteAccess,
    ingest: Ingest,
    *,
    strict: Strict = False,
) -> ImportAcceptedResponse:
    """Accept a JSON array of rows; durable once this answers. Follow the job at `Location`.

    Rows for an account that is not on the key's list of accounts fail, each for itself, with
    `account_not_permitted`.
    """
    require_content_type(request, "application/json")
    async with ingest.bodies.read(request) as body:
        accepted = await ingest.imports.accept_json(
            principal.workspace_id, body, strict=strict, account_ids=principal.account_ids
        )
    response.headers["Location"] = build_job_path(accepted.job_id)
    return ImportAcceptedResponse.from_import(accepted)


@router.post(
    "/csv",
    status_code=HTTPStatus.ACCEPTED,
    responses=_ACCEPTED,
    openapi_extra=_body("multipart/form-data", _FILE, encoding=_CSV),
    dependencies=[RequiresCapacity],
)
async def import_csv(
    request: Request,
    response: Response,
    principal: WriteAccess,
    ingest: Ingest,
    *,
    strict: Strict = False,
) -> ImportAcceptedResponse:
    """Accept a CSV, uploaded in the field `file`; durable once this answers. Follow the job at
    `Location`.

    Rows for an account that is not on the key's list of accounts fail, each for itself, with
    `account_not_permitted`.
    """
    async with open_upload(request, ingest.bodies) as upload:
        accepted = await ingest.imports.accept_csv(
            principal.workspace_id,
            upload.data,
            upload.filename,
            strict=strict,
            account_ids=principal.account_ids,
        )
    response.headers["Location"] = build_job_path(accepted.job_id)
    return ImportAcceptedResponse.from_import(accepted)


@internal_router.get("/imports/{job_id}")
async def get_sent_import(job_id: UUID, ingest: Ingest) -> dict[str, bool]:
    """Tells status whether an import may stand. The gateway has no such route."""
    return {"may_stand": ingest.imports.recent.may_exist(job_id)}


@rate_meter_router.get("/v1/rate-meter")
async def get_rate_meter(
    account_id: str, principal: ReadAccess, ingest: Ingest
) -> RateMeterResponse:
    """How many rows may still be accepted before imports are answered 429: `tokens_available`, as
    the replica that answers has it.

    Pinflow limits workspaces, not accounts: `account` is the same for all of a workspace's
    accounts. `global` is the whole installation's. A token is a row that may wait to be settled,
    not a request: with nothing waiting there is all of `capacity`, whatever was sent before.
    """
    account = uuid_or_404(account_id, "Account")
    return RateMeterResponse.from_quotas(account, *await ingest.rate_meter.read(principal, account))

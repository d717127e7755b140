"""HTTP endpoints: imports as JSON or CSV, and the rate meter."""

from http import HTTPStatus
from inspect import getdoc
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from services.ingest.config import IngestSettings
from services.ingest.dependencies import Ingest
from services.ingest.ids import build_job_path
from services.ingest.parsing.multipart import open_upload
from services.ingest.parsing.policy import ImportParameters, PastRunAt
from services.ingest.schemas import (
    CsvUpload,
    ImportAcceptedResponse,
    ImportRows,
    RateMeterResponse,
)
from shared.access.dependencies import ReadAccess, WriteAccess
from shared.contract.errors import Overloaded
from shared.http.bodies import require_content_type
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, OVERLOADED, error_responses
from shared.http.requests import describe_body, describe_json_body, uuid_or_404

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
    """Refuses an import before its body is parsed. Raises Overloaded.

    Discards the body first, because a client that is still sending would not get the response.
    """
    try:
        ingest.imports.require_capacity(principal.workspace_id)
    except Overloaded:
        await ingest.bodies.discard(request)
        raise


RequiresCapacity = Depends(_require_capacity)


class _ImportQuery(BaseModel):
    """The query parameters of both kinds of imports."""

    strict: Annotated[
        bool, Field(description="Fail rows with unknown fields instead of ignoring these fields.")
    ] = False
    timezone: Annotated[
        str | None,
        Field(
            description=(
                "The IANA time zone of each run_at without an offset. A time that clocks skip "
                "fails; of a time that they show twice the first is used, with a warning."
            ),
            examples=["Europe/Berlin"],
        ),
    ] = None
    past_run_at: Annotated[PastRunAt, Field(description=getdoc(PastRunAt))] = PastRunAt.PUBLISH
    account: Annotated[
        str | None,
        Field(description="The id or the unique name of the account of rows without account_id."),
    ] = None

    def build_parameters(self, encoding: str | None = None) -> ImportParameters:
        return ImportParameters(
            self.strict, self.timezone, self.past_run_at, self.account, encoding
        )


class _CsvQuery(_ImportQuery):
    encoding: Annotated[
        str | None,
        Field(
            description=(
                "The file's encoding. Without it, UTF-8, UTF-16 and Western Windows-1252 are "
                "recognized. It takes precedence over the charset of the part."
            ),
            examples=["windows-1251"],
        ),
    ] = None


_BODY_LIMIT = IngestSettings.model_fields["import_body_limit"].default
_CSV = describe_body(
    "multipart/form-data", CsvUpload, _BODY_LIMIT, encoding={"file": {"contentType": "text/csv"}}
)
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    HTTPStatus.ACCEPTED: {
        "description": "Kafka has the whole import. Its rows are settled in the background.",
        "headers": {
            "Location": {
                "description": "The path of the job.",
                "required": True,
                "schema": {"type": "string"},
            }
        },
        "links": {
            "job": {
                "description": "The job of the import.",
                "operationId": "get_import",
                "parameters": {"job_id": "$response.body#/id"},
            }
        },
    }
}


@router.post(
    "/json",
    status_code=HTTPStatus.ACCEPTED,
    responses=_ACCEPTED,
    openapi_extra=describe_json_body(ImportRows, _BODY_LIMIT),
    dependencies=[RequiresCapacity],
)
async def import_json(
    request: Request,
    response: Response,
    principal: WriteAccess,
    ingest: Ingest,
    query: Annotated[_ImportQuery, Query()],
) -> ImportAcceptedResponse:
    """Accept a JSON array of rows. Follow the job at `Location`.

    The import is stored durably before the response is sent. Rows for an account that the API key
    does not permit fail with `account_not_permitted`. Other rows are not affected.
    """
    require_content_type(request, "application/json")
    async with ingest.bodies.read(request) as body:
        accepted = await ingest.imports.accept_json(
            principal.workspace_id, body, query.build_parameters(), principal.account_ids
        )
    response.headers["Location"] = build_job_path(accepted.job_id)
    return ImportAcceptedResponse.from_import(accepted)


@router.post(
    "/csv",
    status_code=HTTPStatus.ACCEPTED,
    responses=_ACCEPTED,
    openapi_extra=_CSV,
    dependencies=[RequiresCapacity],
)
async def import_csv(
    request: Request,
    response: Response,
    principal: WriteAccess,
    ingest: Ingest,
    query: Annotated[_CsvQuery, Query()],
) -> ImportAcceptedResponse:
    """Accept a CSV file in the form field `file`. Follow the job at `Location`.

    The import is stored durably before the response is sent. Rows for an account that the API key
    does not permit fail with `account_not_permitted`. Other rows are not affected.
    """
    async with open_upload(request, ingest.bodies) as upload:
        accepted = await ingest.imports.accept_csv(
            principal.workspace_id,
            upload.data,
            upload.filename,
            query.build_parameters(query.encoding or upload.charset),
            principal.account_ids,
        )
    response.headers["Location"] = build_job_path(accepted.job_id)
    return ImportAcceptedResponse.from_import(accepted)


@internal_router.get("/imports/{job_id}")
async def get_sent_import(job_id: UUID, ingest: Ingest) -> dict[str, bool]:
    """Return whether this replica may have sent an import. The status service calls this."""
    return {"may_exist": ingest.imports.recent_imports.may_exist(job_id)}


@rate_meter_router.get("/v1/rate-meter", response_description="The limits and what is left.")
async def get_rate_meter(
    account_id: Annotated[str, Query(description="An account of the workspace.")],
    principal: ReadAccess,
    ingest: Ingest,
) -> RateMeterResponse:
    """Get how many rows may still be imported before imports get 429.

    A token is room for one row that waits to be settled, not for a request. If no row waits,
    `tokens_available` equals `capacity`. `account` is the limit of the workspace, so it is the same
    for all of its accounts. Each replica counts only the rows of the workspace that it accepted
    itself. `global` is the limit of the whole installation.
    """
    account = uuid_or_404(account_id, "Account")
    return RateMeterResponse.from_quotas(account, *await ingest.rate_meter.read(principal, account))

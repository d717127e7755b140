"""HTTP endpoints: imports as JSON or CSV, and the rate meter."""

from http import HTTPStatus
from inspect import getdoc
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from services.ingest.config import IngestSettings
from services.ingest.dependencies import Ingest, IngestDependencies
from services.ingest.ids import build_job_path
from services.ingest.ledger import Channel, RequestKey
from services.ingest.parsing.multipart import open_upload
from services.ingest.parsing.policy import ImportParameters, PastRunAt
from services.ingest.parsing.rows import require_rows
from services.ingest.schemas import (
    CsvUpload,
    ImportAcceptedResponse,
    ImportCheckResponse,
    ImportRows,
    RateMeterResponse,
    RetryAcceptedResponse,
    RetryRequest,
    build_check_document,
)
from services.ingest.submissions import ImportSubmission, submit_csv, submit_json, submit_rows
from shared.access.dependencies import ReadAccess, WriteAccess
from shared.contract.errors import Overloaded
from shared.contract.events import OnExisting
from shared.http.bodies import require_content_type
from shared.http.errors import (
    ACCESS_ERRORS,
    BODY_ERRORS,
    OVERLOADED,
    RETRY_AFTER_HEADER,
    ErrorResponse,
    error_responses,
)
from shared.http.idempotency import REPLAYED, IdempotencyKey
from shared.http.internal import RequiresInternalToken
from shared.http.requests import describe_body, describe_json_body, parse_model, uuid_or_404

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
    on_existing: Annotated[
        OnExisting,
        Field(
            description=(
                "The treatment of a row whose idempotency key already has a pin. `report` changes "
                "nothing; `update` gives the pin the row's content and time, unless it is "
                "published; `revive` publishes a new pin if the old one was deleted or canceled. "
                "No value changes a pin of another account than the row's, or takes that pin's key."
            )
        ),
    ] = OnExisting.REPORT
    dry_run: Annotated[
        bool,
        Field(
            description=(
                "Only check the import: the answer is 200 with what would become of each row. "
                "Nothing is stored, and `Idempotency-Key` is ignored."
            )
        ),
    ] = False

    def build_parameters(self, encoding: str | None = None) -> ImportParameters:
        return ImportParameters(
            self.strict,
            self.timezone,
            self.past_run_at,
            self.account,
            encoding,
            self.on_existing,
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
    HTTPStatus.OK: {
        "description": "With `dry_run=true`: what the import would become.",
        "model": ImportCheckResponse,
    },
    HTTPStatus.ACCEPTED: {
        "description": "Kafka has the whole import. Its rows are settled in the background.",
        "headers": {
            **REPLAYED,
            "Location": {
                "description": "The path of the job.",
                "required": True,
                "schema": {"type": "string"},
            },
        },
        "links": {
            "job": {
                "description": "The job of the import.",
                "operationId": "get_import",
                "parameters": {"job_id": "$response.body#/id"},
            }
        },
    },
    HTTPStatus.CONFLICT: {
        "model": ErrorResponse,
        "description": "`request_in_progress`: an earlier request with the same `Idempotency-Key` "
        "is still being processed. Nothing was done.",
        "headers": {"Retry-After": RETRY_AFTER_HEADER},
    },
}


@router.post(
    "/json",
    status_code=HTTPStatus.ACCEPTED,
    response_model=ImportAcceptedResponse,
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
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Accept a JSON array of rows. Follow the job at `Location`.

    Pins of accounts that are connected to Pinterest are queued, then delivered to Pinterest. Other
    pins are stored and announced.

    The import is stored durably before the response is sent. Rows for an account that the API key
    does not permit fail with `account_not_permitted`. Other rows are not affected.

    With `Idempotency-Key`, send the request again as often as you like: the same body and
    parameters are the same job. While the first request is processed, the answer is 409
    `request_in_progress`. Another body or parameter under the key gets 422
    `idempotency_key_reused`.
    """
    require_content_type(request, "application/json")
    async with ingest.bodies.read(request) as body:
        submission = submit_json(
            principal.workspace_id, body, query.build_parameters(), principal.account_ids
        )
        if query.dry_run:
            return await _check(ingest, submission)
        return await _accept(ingest, submission, idempotency_key, response)


@router.post(
    "/csv",
    status_code=HTTPStatus.ACCEPTED,
    response_model=ImportAcceptedResponse,
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
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Accept a CSV file in the form field `file`. Follow the job at `Location`.

    Pins of accounts that are connected to Pinterest are queued, then delivered to Pinterest. Other
    pins are stored and announced.

    The import is stored durably before the response is sent. Rows for an account that the API key
    does not permit fail with `account_not_permitted`. Other rows are not affected.

    With `Idempotency-Key`, send the request again as often as you like: the same file and
    parameters are the same job, whatever the file's name. While the first request is processed, the
    answer is 409 `request_in_progress`. Another file or parameter under the key gets 422
    `idempotency_key_reused`.
    """
    async with open_upload(request, ingest.bodies) as upload:
        submission = submit_csv(
            principal.workspace_id,
            upload.data,
            upload.filename,
            query.build_parameters(query.encoding or upload.charset),
            principal.account_ids,
        )
        if query.dry_run:
            return await _check(ingest, submission)
        return await _accept(ingest, submission, idempotency_key, response)


async def _accept(
    ingest: IngestDependencies, submission: ImportSubmission, key: str | None, response: Response
) -> ImportAcceptedResponse:
    if key is None:
        accepted = await ingest.imports.accept(submission)
    else:
        accepted = await ingest.keyed_imports.accept(
            submission, RequestKey(submission.workspace_id, key, Channel.HTTP)
        )
    response.headers["Location"] = build_job_path(accepted.event.job_id)
    if accepted.is_replay:
        response.headers["Idempotent-Replayed"] = "true"
    return ImportAcceptedResponse.from_event(accepted.event)


async def _check(ingest: IngestDependencies, submission: ImportSubmission) -> Response:
    checked = await ingest.checker.check(submission)
    document = build_check_document(checked, with_values=submission.account_ids is None)
    content = orjson.dumps(document, option=orjson.OPT_UTC_Z)
    return Response(content, media_type="application/json")


@internal_router.post("/imports")
async def retry_rows(
    request: Request, _token: RequiresInternalToken, ingest: Ingest
) -> RetryAcceptedResponse:
    """Accept failed rows of an earlier import again, once for each key. Status calls this."""
    async with ingest.retries.read(request) as document:
        retry = parse_model(RetryRequest, document)
        ingest.imports.require_capacity(retry.workspace_id)
        submission = submit_rows(
            retry.workspace_id,
            require_rows(retry.rows),
            source_type=retry.source_type,
            filename=retry.source_filename,
            lines=retry.lines,
            parameters=retry.parameters,
            account_ids=retry.account_ids,
            parent_id=retry.parent_id,
        )
        accepted = await ingest.keyed_imports.accept(
            submission, RequestKey(retry.workspace_id, retry.key, Channel.RETRY)
        )
    document = ImportAcceptedResponse.from_event(accepted.event).model_dump()
    return RetryAcceptedResponse(**document, is_replay=accepted.is_replay)


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
    """Get how many rows may still be imported before imports get 429. For an account that is
    connected to Pinterest: how many pins Pinflow may send there before it has to wait.

    A token is room for one row that waits to be settled, not for a request. If no row waits,
    `tokens_available` equals `capacity`. `account` is the limit of the workspace, so it is the same
    for all of its accounts. Each replica counts only the rows of the workspace that it accepted
    itself. `global` is the limit of the whole installation.

    If the account was ever connected, a token is room for one pin at Pinterest instead. `account`
    is then the limit of the account, and `global` that of the installation's app. Imports are never
    refused because of these limits: pins wait. `GET /v1/deliveries` shows how many do. If the
    publisher does not answer, the answer is as for other accounts.
    """
    account = uuid_or_404(account_id, "Account")
    return RateMeterResponse.from_quotas(account, *await ingest.rate_meter.read(principal, account))
